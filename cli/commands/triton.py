"""``triton-video triton``: runs Triton without the API, as the containers of a fleet do.

Imports in functions keep the start light: Triton needs packages that ``--help`` does not.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from cli.app import App
from cli.output.progress import choose_view
from cli.params.commands import TritonParams
from cli.params.groups import TritonGroup
from cli.params.options import ParamsCommand
from cli.params.sources import load
from cli.run.backend import Backend
from cli.run.triton_token import required_token
from cli.runtime.endpoints import RESTRICTED, Endpoint, Ports, Sockets
from pipeline.errors import InputError, ServerError
from pipeline.families import Bounds

HELP = """Run Triton without the API, in the foreground.

For `serve --triton-url`, `worker` and any Triton client, on this machine or another. Anyone who can
reach its ports can generate videos: open them to a private network only.
"""
UNIX = "unix:"


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("triton", TritonParams, callback=_triton, help=HELP)


@click.pass_context
def _triton(ctx: click.Context, /, **_: object) -> None:
    from cli.run.prepare import prepare
    from cli.runtime.foreground import run

    app, params = App.of(ctx), load(ctx, TritonParams)
    triton, bounds, log = params.triton, params.bounds, params.log
    app.style.verbose = log.verbose
    if triton.model_repository and bounds != Bounds():
        name = next(name for name, value in bounds if value is not None)
        raise InputError(name, "has no effect with --model-repository; set it for serve instead")
    endpoint = endpoint_of(triton)
    token = required_token(triton, os.environ) if isinstance(endpoint, Ports) else None
    with choose_view(quiet=log.quiet) as view:
        for text in exposure(endpoint):
            view.note(text)
        repository = triton.model_repository or prepare(
            app.backend or Backend(),
            triton.model_path,
            params.stages,
            view,
            verbose=log.verbose,
            bounds=bounds,
        )
    ended = run(
        repository, endpoint, token, triton.hang_timeout_s, until_stdin_ends=triton.until_stdin_ends
    )
    if ended:
        raise ServerError(f"tritonserver ended with exit code {ended}; its log above says why")


def endpoint_of(params: TritonGroup) -> Endpoint:
    """Return where to listen. Raises ``InputError`` if others may enter a folder of sockets."""
    if not params.host.startswith(UNIX):
        return Ports(params.http_port, params.grpc_port, params.metrics_port, params.host)
    folder = Path(params.host.removeprefix(UNIX)).absolute()
    try:
        found = folder.stat()
    except OSError as error:
        raise InputError(
            "host", f"{folder}: {error.strerror}; it must be an existing folder"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError("host", f"{folder} must be your folder, and private (chmod 700)")
    return Sockets(folder)


def exposure(endpoint: Endpoint) -> list[str]:
    """Return notes on what a server on an address other than loopback opens to others."""
    if isinstance(endpoint, Sockets) or endpoint.host in ("127.0.0.1", "::1", "localhost"):
        return []
    ports = f"{endpoint.http} (HTTP), {endpoint.grpc} (gRPC) and {endpoint.metrics} (metrics)"
    return [
        f"listening on {endpoint.host}: anyone who can reach ports {ports} can generate videos and "
        "read metrics, without a key",
        "closed to them: loading models, cancelling jobs without the token, and the APIs "
        + ", ".join(RESTRICTED),
    ]
