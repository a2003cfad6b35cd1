"""``triton-video serve``: the Videos API, in front of a Triton of its own or a running one."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

import click

from cli.backend import Backend, choose_backend
from cli.credentials import api_keys, filed_keys, webhook_secret
from cli.logs import set_up_logging
from cli.options import GroupedCommand
from cli.parameters import SERVE_GROUPS, AccessParams, LogParams, ServersParams
from cli.progress import ProgressView, choose_view
from cli.sources import check_groups, heard
from pipeline.errors import ServerError
from proxy.settings import ProxySettings

BACKLOG = 2048
DRAIN_S = 10  # for answers that are being sent when the server is told to stop
HELP = """Serve the OpenAI Videos API, for programs that change nothing but their base_url.

Starts a Triton Inference Server and stops it at the end, or uses a running one (--triton-url).
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.parameters`."""
    return GroupedCommand("serve", SERVE_GROUPS, callback=_serve, help=HELP)


@click.pass_context
def _serve(ctx: click.Context, /, **values: object) -> None:
    style = ctx.meta["style"]
    files = {"access": filed_keys, "webhook": lambda webhook: webhook_secret(webhook, os.environ)}
    groups = check_groups(heard(ctx, values, SERVE_GROUPS), SERVE_GROUPS, files)
    settings = ProxySettings(**dict(groups["http"]), **dict(groups["jobs"]), **dict(groups["webhook"]))
    server = cast(ServersParams, groups["server"])
    backend = ctx.find_object(Backend) or choose_backend(server)
    log = cast(LogParams, groups["log"])
    style.verbose = log.verbose
    set_up_logging(log.log_format, quiet=log.quiet, verbose=log.verbose)
    secret = webhook_secret(settings, os.environ)
    keys = api_keys(cast(AccessParams, groups["access"]), os.environ)
    with ExitStack() as stack:
        # First of all: a port that is taken, or a database that is down, should not cost the start of a Triton.
        sock = stack.enter_context(listening(settings.host, settings.port))
        check(settings)
        with choose_view(quiet=log.quiet) as view:
            hang_s = settings.hang_timeout_s
            urls = server.triton_url or [_own_triton(stack, backend, server, view, hang_s, verbose=log.verbose)]
        run_proxy(settings, urls, keys, secret, sock)


def check(settings: ProxySettings) -> None:
    """Raises ``InputError`` or ``ServerError`` when the job database or the video store cannot be used."""
    import asyncio

    from proxy.stores import check_stores

    asyncio.run(check_stores(settings))


def run_proxy(
    settings: ProxySettings, triton_urls: Sequence[str], keys: Sequence[str], secret: str | None, sock: socket.socket
) -> None:
    """Serve on ``sock`` until a signal comes."""
    from proxy.app import create_app
    from proxy.server import Server
    from proxy.tracing import set_up_tracing

    set_up_tracing(os.environ)
    Server(create_app(settings, triton_urls, keys, secret), drain_s=DRAIN_S).run([sock])


def listening(host: str, port: int) -> socket.socket:
    """Raises ``ServerError`` when the port cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # Connections inherit it. asyncio sets it for sockets that name their protocol only, which this one does not,
        # and without it the body of each answer waits 40 ms for the client to acknowledge its headers.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except OSError as error:
        raise ServerError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _own_triton(
    stack: ExitStack, backend: Backend, server: ServersParams, view: ProgressView, hang_s: float, *, verbose: bool
) -> str:
    from cli.generation import bundled_checkpoint
    from cli.memory import fitting_settings
    from pipeline.hub import locate

    origin = locate(server.model_path or bundled_checkpoint(), None, lambda text: view.message("prepare", text))
    checkpoint = origin.open()
    settings = fitting_settings(checkpoint, server, None, view.note, verbose=verbose)
    repository = backend.prepare(checkpoint, settings, lambda text: view.message("prepare", text))
    lasting = backend.lasting_server(repository, lambda text: view.message("start", text), hang_s)
    return stack.enter_context(lasting).grpc_url
