"""``triton-video triton``: Triton alone, for proxies and workers elsewhere; what the images of a fleet run."""

from __future__ import annotations

from typing import cast

import click

from cli.backend import Backend
from cli.options import GroupedCommand
from cli.parameters import TRITON_GROUPS, StageParams, TritonParams, VerbosityParams
from cli.progress import choose_view
from cli.sources import check_groups, heard
from pipeline.errors import InputError, ServerError
from pipeline.spec import Bounds

HELP = """Run Triton alone, in the foreground.

For `serve --triton-url`, `worker` and any Triton client, here or elsewhere. Its ports ask for no key: open them
to a network of your own only.
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.parameters`."""
    return GroupedCommand("triton", TRITON_GROUPS, callback=_triton, help=HELP)


@click.pass_context
def _triton(ctx: click.Context, /, **values: object) -> None:
    from cli.generation import bundled_checkpoint
    from cli.memory import fitting_settings
    from cli.runtime.foreground import run
    from cli.runtime.ports import Ports
    from pipeline.hub import locate

    groups = check_groups(heard(ctx, values, TRITON_GROUPS), TRITON_GROUPS)
    params, report = cast(TritonParams, groups["triton"]), cast(VerbosityParams, groups["report"])
    ctx.meta["style"].verbose = report.verbose
    bounds = cast(Bounds, groups["bounds"])
    repository = params.model_repository
    if repository and bounds != Bounds():
        name = next(name for name, value in bounds if value is not None)
        raise InputError(name, "has no effect with --model-repository; set it where requests come in: serve")
    if repository is None:
        backend = ctx.find_object(Backend) or Backend()
        with choose_view(quiet=report.quiet) as view:
            origin = locate(params.model_path or bundled_checkpoint(), None, lambda text: view.message("prepare", text))
            checkpoint = origin.open()
            stages = cast(StageParams, groups["stages"])
            settings = fitting_settings(checkpoint, stages, None, view.note, verbose=report.verbose, bounds=bounds)
            repository = backend.prepare(checkpoint, settings, lambda text: view.message("prepare", text))
    ports = Ports(params.http_port, params.grpc_port, params.metrics_port)
    ended = run(repository, ports, params.host, until_stdin_ends=params.until_stdin_ends)
    if ended:
        raise ServerError(f"tritonserver ended with exit code {ended}; its log above says why")
