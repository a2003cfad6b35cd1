"""The entry point: finds the command, runs it, and returns the exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from cli import failure
from cli.app import App
from cli.commands.completion import COMPLETE_VARIABLE
from cli.interrupts import Interrupted, interruptible
from pipeline.system.telemetry import opt_out

if TYPE_CHECKING:
    from cli.run.backend import Backend

# Name -> the module whose `command()` returns the command, and its line in `--help`, which imports
# none of the modules.
COMMANDS = {
    "generate": ("cli.commands.generate", "Generate one video from a prompt."),
    "serve": ("cli.commands.serve", "Serve the OpenAI Videos API."),
    "export": ("cli.commands.export", "Export a checkpoint as a model repository."),
    "calibrate": ("cli.commands.calibrate", "Measure the table of a model's step cache."),
    "worker": ("cli.commands.worker", "Generate the videos that servers queue."),
    "triton": ("cli.commands.triton", "Run Triton without the API."),
    "models": (
        "cli.commands.models",
        "List supported families and local checkpoints.",
    ),
    "doctor": ("cli.commands.doctor", "Check this machine."),
    "config": (
        "cli.commands.config",
        "Show the values a command would use, and their sources.",
    ),
    "completion": (
        "cli.commands.completion",
        "Print a shell-completion script.",
    ),
}


class Commands(click.Group):
    """The commands; the module of each is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # shell completion
                return None
            near = failure.nearest(cmd_name, COMMANDS)
            raise click.UsageError(
                f"no such command {cmd_name!r}" + (f"; did you mean {near}?" if near else "")
            )
        module, _ = COMMANDS[cmd_name]
        return importlib.import_module(module).command()

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def main(arguments: Sequence[str] | None = None, *, backend: Backend | None = None) -> NoReturn:
    """Run the command line and exit. ``backend`` replaces the real server and client in tests."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments), backend))


def run(arguments: Sequence[str], backend: Backend | None = None) -> int:
    """Run the command line and return its exit code; no error passes."""
    opt_out()  # before any command imports a library that reports
    app = App(failure.Style.guess(arguments), backend)
    try:
        with interruptible():
            return _complete() if COMPLETE_VARIABLE in os.environ else _call(arguments, app)
    except click.exceptions.Exit as end:
        return end.exit_code
    except Interrupted as stop:
        return failure.report_interrupt(stop.exit_code, app.style)
    except Exception as error:  # noqa: BLE001 - tracebacks are printed with -v only
        return failure.report(error, app.style)


def _complete() -> int:
    """Answer a shell that asks for completions."""
    from click.shell_completion import shell_complete

    return shell_complete(
        group(), {}, failure.PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE]
    )


def _call(arguments: Sequence[str], app: App) -> int:
    commands = group()
    with commands.make_context(failure.PROGRAM, list(arguments), obj=app) as ctx:
        commands.invoke(ctx)
    return 0


def group() -> Commands:
    """Return the root command."""
    version = click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Show the version.",
    )
    return Commands(
        failure.PROGRAM,
        params=[version],
        help="Text to video on NVIDIA Triton Inference Server.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(version("triton-video"))
    except PackageNotFoundError:
        click.echo("unknown (not installed)")
    ctx.exit()
