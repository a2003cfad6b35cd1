"""``triton-video serve``: serves the Videos API, with its own Triton or running ones.

Imports in functions keep the start light: the server needs packages that ``--help`` does not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from cli.app import App
from cli.logs import logging_to_stderr
from cli.output.progress import choose_view
from cli.params.commands import ServeParams
from cli.params.credentials import api_keys, filed_keys, webhook_secret
from cli.params.options import ParamsCommand
from cli.params.sources import load
from cli.run import dry_run
from cli.run.backend import Backend
from cli.run.choice import choose_backend
from cli.run.triton_token import known_token
from cli.runtime.base import LastingServer
from export.progress import ProgressView
from pipeline.errors import ServerError
from pipeline.system.private import GROUP_AND_OTHERS
from proxy.pause import Pause
from proxy.settings import ProxySettings

PROBE_AFTER_S, PROBE_EVERY_S = 60, 15  # keep-alive probes of an idle connection
DRAIN_S = 10  # for responses that are being sent when the server stops
HELP = """Serve the OpenAI Videos API: point your OpenAI client's base_url at this server.

Starts a Triton Inference Server and stops it at the end, or uses running ones (--triton-url).
"""


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("serve", ServeParams, callback=_serve, help=HELP)


@click.pass_context
def _serve(ctx: click.Context, /, **_: object) -> None:
    app = App.of(ctx)
    files = {"access": filed_keys, "webhook": lambda webhook: webhook_secret(webhook, os.environ)}
    params = load(ctx, ServeParams, files)
    settings = ProxySettings(
        **dict(params.http),
        **dict(params.requests),
        **dict(params.jobs),
        **dict(params.webhook),
        **dict(params.bounds),
    )
    backend = app.backend or choose_backend(params.start)
    if dry_run.asked(params.dry, runs_triton=not params.servers.triton_url):
        dry_run.print_plan(params.dry, backend, params.start, params.stages, bounds=params.bounds)
        return
    log = params.log
    app.style.verbose = log.verbose
    secret = webhook_secret(settings, os.environ)
    keys = api_keys(params.access, os.environ)
    with ExitStack() as stack:
        stack.enter_context(logging_to_stderr(log.log_format, quiet=log.quiet, verbose=log.verbose))
        # Before Triton: a port in use, or a database that is down, is reported without its start.
        sock = stack.enter_context(listening(settings.host, settings.port, settings.send_timeout_s))
        check(settings)
        urls, own, pause = params.servers.triton_url, None, Pause()
        with choose_view(quiet=log.quiet) as view:
            if not urls:
                own = _own_triton(backend, params, view, stack, pause)
                urls = (own.grpc_url,)
        token = known_token(params.servers, urls, os.environ)
        metrics = own.metrics_socket if own else None
        run_proxy(
            settings, urls, keys, secret, sock, token=token, metrics_socket=metrics, pause=pause
        )


def check(settings: ProxySettings) -> None:
    """Check the job database and the video store. Raises ``InputError`` or ``ServerError``."""
    import asyncio

    from proxy.links import link_key
    from proxy.storage import check_storage

    asyncio.run(check_storage(settings))
    link_key(settings)


def run_proxy(
    settings: ProxySettings,
    triton_urls: Sequence[str],
    keys: Sequence[str],
    secret: str | None,
    sock: socket.socket,
    *,
    token: str | None,
    metrics_socket: Path | None,
    pause: Pause,
) -> None:
    """Serve on ``sock`` until a signal; `proxy.app.create_app` documents the other parameters."""
    from proxy.app import create_app
    from proxy.descriptors import raise_limit
    from proxy.server import Server
    from proxy.tracing import set_up_tracing

    os.umask(GROUP_AND_OTHERS)  # videos and the database are for this user only
    set_up_tracing(os.environ)
    raise_limit()
    app = create_app(
        settings,
        triton_urls,
        keys,
        secret,
        triton_token=token,
        metrics_socket=metrics_socket,
        pause=pause,
    )
    Server(app, settings, drain_s=DRAIN_S).run([sock])


def listening(host: str, port: int, send_timeout_s: float = 60) -> socket.socket:
    """Return a listening socket; its connections end if the client vanishes or stops reading.

    ``send_timeout_s`` is how long a client may read nothing. Raises ``ServerError`` if the port
    cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((host, port), family=family)
        # Connections inherit it. asyncio sets it only for sockets with an explicit protocol, which
        # this one has not. Without it the body of each response waits 40 ms for the client to
        # acknowledge its headers.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Limits how long the kernel keeps data for a client that does not read.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(send_timeout_s * 1000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
        return sock
    except OSError as error:
        raise ServerError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _own_triton(
    backend: Backend, params: ServeParams, view: ProgressView, stack: ExitStack, pause: Pause
) -> LastingServer:
    """Start a Triton that ends with ``stack``, and the export of its graphs, if it lacks any."""
    from cli.run.background_export import BackgroundExport, missing_export
    from cli.run.prepare import prepare

    repository = prepare(
        backend,
        params.start.model_path,
        params.stages,
        view,
        verbose=params.log.verbose,
        bounds=params.bounds,
        export_first=not params.servers.background_export,
    )
    missing = None
    if params.servers.background_export:
        missing = missing_export(backend, repository, params.stages, params.bounds)
    server = stack.enter_context(
        backend.lasting_server(
            repository, lambda text: view.message("start", text), params.jobs.hang_timeout_s
        )
    )
    if missing:
        stack.enter_context(
            BackgroundExport(missing, lambda exported: server.switch(exported, pause))
        )
    return server
