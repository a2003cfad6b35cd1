"""``triton-video serve``: serves the Videos API, with its own Triton or running ones.

Imports in functions keep the start light: the server needs packages that ``--help`` does not.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.interrupts import ended_by_sigterm
from cli.logs import logging_to_stderr
from cli.output.start_view import StartView
from cli.params.commands import ServeParams
from cli.params.credentials import ApiKeys, api_keys, filed_keys, webhook_secret
from cli.params.options import ParamsCommand
from cli.params.sources import load
from cli.run import dry_run
from cli.run.backend import Backend
from cli.run.choice import choose_backend
from cli.run.triton_token import known_token
from pipeline.ensemble.stages import DIT
from pipeline.errors import ServerError
from pipeline.families import ModelInfo
from pipeline.system.private import GROUP_AND_OTHERS
from proxy.own_triton import OwnTriton, Place
from proxy.settings import JobSettings, ProxySettings

if TYPE_CHECKING:
    from cli.run.http_thread import HttpThread

logger = logging.getLogger(__name__)

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
    seats = 1 if params.servers.triton_url else params.stages.batching_max_size
    settings = ProxySettings(
        **dict(params.http),
        **dict(params.requests),
        **{**dict(params.jobs), "jobs_per_triton": concurrent_jobs(params.jobs, seats)},
        **dict(params.webhook),
        **dict(params.bounds),
    )
    backend = app.backend or choose_backend(params.start)
    if dry_run.asked(params.dry, runs_triton=not params.servers.triton_url):
        dry_run.print_plan(params.dry, backend, params.start, params.stages, bounds=params.bounds)
        return
    log = params.log
    app.style.verbose, app.style.json_log = log.verbose, log.log_format == "json"
    secret = webhook_secret(settings, os.environ)
    urls = params.servers.triton_url
    token = known_token(params.servers, urls, os.environ)
    with ended_by_sigterm(), ExitStack() as stack:
        stack.enter_context(logging_to_stderr(log.log_format, quiet=log.quiet, verbose=log.verbose))
        # Before Triton: a port in use, or a database that is down, is reported without its start.
        sock = stack.enter_context(listening(settings.host, settings.port, settings.send_timeout_s))
        check(settings)
        keys = api_keys(params.access, os.environ, settings.data_folder)
        own = None if urls else OwnTriton()
        triton = stack.enter_context(ExitStack())  # ends after the HTTP server
        with serving(settings, urls, keys, secret, sock, token=token, own=own) as http:
            if own:
                _start_triton(backend, params, own, triton)
            http.wait()


def concurrent_jobs(settings: JobSettings, seats: int) -> int:
    """Return how many jobs the Triton gets at a time, of which ``seats`` can share a batch.

    By default it gets one more than that, which is decoded meanwhile.
    """
    return seats + 1 if settings.jobs_per_triton == 1 < seats else settings.jobs_per_triton


def check(settings: ProxySettings) -> None:
    """Check the job database and the video store. Raises ``InputError`` or ``ServerError``."""
    import asyncio

    from proxy.links import link_key
    from proxy.storage import check_storage

    asyncio.run(check_storage(settings))
    link_key(settings)


def serving(
    settings: ProxySettings,
    triton_urls: Sequence[str],
    keys: ApiKeys,
    secret: str | None,
    sock: socket.socket,
    *,
    token: str | None,
    own: OwnTriton | None,
) -> HttpThread:
    """Return the HTTP server on ``sock``; `proxy.app.create_app` documents the parameters."""
    from cli.run.http_thread import HttpThread
    from proxy.app import create_app
    from proxy.descriptors import raise_limit
    from proxy.server import Server
    from proxy.tracing import set_up_tracing

    os.umask(GROUP_AND_OTHERS)  # videos and the database are for this user only
    set_up_tracing(os.environ)
    raise_limit()
    url = settings.public_url or address(sock)
    app = create_app(
        settings,
        triton_urls,
        keys.values,
        secret,
        triton_token=token,
        own=own,
        on_ready=lambda model: logger.info("%s", ready_line(url, keys, model)),
    )
    return HttpThread(Server(app, settings, drain_s=DRAIN_S), sock)


def address(sock: socket.socket) -> str:
    """Return the URL of a listening socket for clients on this machine."""
    host, port = sock.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ready_line(url: str, keys: ApiKeys, model: ModelInfo) -> str:
    """Return what a user needs for a first video: the address, and a command that makes it."""
    words = ["curl", f"{url}/v1/videos/sync", '-F prompt="a red circle moves right"']
    if keys.in_shell:
        words.append(f'-H "Authorization: Bearer {keys.in_shell}"')
    if model.image == "required":
        words.append("-F input_reference=@image.png")
    access = "without API keys" if keys.in_shell is None else f"API key: {keys.in_shell}"
    return f"ready at {url} ({access}); try: {' '.join(words)} -o video.mp4"


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


def _start_triton(backend: Backend, params: ServeParams, own: OwnTriton, stack: ExitStack) -> None:
    """Start a Triton that ends with ``stack``, and the export of its graphs, if it lacks any."""
    from cli.run.background_export import BackgroundExport, missing_export
    from cli.run.prepare import prepare

    def tell(stage: str) -> None:
        own.stage = stage

    view = StartView(tell)
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
    server = backend.lasting_server(
        repository, lambda text: view.message("start", text), params.jobs.hang_timeout_s
    )
    model = ModelInfo.load(repository / DIT.name / "1")
    own.announce(Place(server.grpc_url, server.metrics_socket, model))
    stack.enter_context(server)
    own.started()
    if missing:
        stack.enter_context(
            BackgroundExport(missing, lambda exported: server.switch(exported, own.pause))
        )
