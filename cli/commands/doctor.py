"""``triton-video doctor``: checks this machine and prints advice."""

from __future__ import annotations

import json
import os

import click

from cli.output.table import table
from cli.params.commands import AnswerParams
from cli.params.options import ParamsCommand
from cli.params.sources import load
from pipeline.errors import ServerError

HELP = """Check this machine: Python and its packages, Triton, GPU, containers, memory, disk, port.

The exit code is 0, or 4 if a run on this machine would fail.
"""


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("doctor", AnswerParams, callback=_doctor, help=HELP)


@click.pass_context
def _doctor(ctx: click.Context, /, **_: object) -> None:
    from cli.commands.diagnosis import State, examine

    answer = load(ctx, AnswerParams).answer
    findings = examine(os.environ)
    if answer.as_json:
        click.echo(json.dumps({"checks": [finding.described() for finding in findings]}))
    else:
        click.echo(
            "\n".join(
                table(
                    ("what", "state", "found"), [(f.name, f.state.value, f.found) for f in findings]
                )
            )
        )
        for finding in findings:
            if finding.advice:
                click.echo(f"\n{finding.name}: {finding.advice}")
    if any(finding.state is State.FAILED for finding in findings):
        ctx.exit(ServerError.exit_code)
