"""``triton-video worker``: generates the videos that servers queue, without an HTTP server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

import click

from cli.app import App
from cli.interrupts import ended_by_sigterm
from cli.logs import logging_to_stderr
from cli.params.commands import WorkerParams
from cli.params.credentials import webhook_secret
from cli.params.options import ParamsCommand
from cli.params.sources import load
from cli.run.triton_token import known_token
from pipeline.system.private import GROUP_AND_OTHERS
from proxy.settings import WorkSettings

HELP = """Generate the videos that `triton-video serve` queues.

For a fleet: any number of workers and servers share one database and one store. Servers that only
answer requests run with --no-worker. SIGTERM returns running jobs to the queue.
"""


def command() -> click.Command:
    """Return the click command; its options follow from its parameters in `cli.params.commands`."""
    return ParamsCommand("worker", WorkerParams, callback=_worker, help=HELP)


@click.pass_context
def _worker(ctx: click.Context, /, **_: object) -> None:
    files = {"webhook": lambda webhook: webhook_secret(webhook, os.environ)}
    params = load(ctx, WorkerParams, files)
    log, urls = params.log, params.servers.triton_url
    style = App.of(ctx).style
    style.verbose, style.json_log = log.verbose, log.log_format == "json"
    settings = WorkSettings(**dict(params.jobs), **dict(params.webhook))
    secret = webhook_secret(settings, os.environ)
    token = known_token(params.servers, urls, os.environ)
    logged = logging_to_stderr(log.log_format, quiet=log.quiet, verbose=log.verbose)
    with ended_by_sigterm(), logged:
        asyncio.run(work(settings, urls, secret, token))


async def work(
    settings: WorkSettings, triton_urls: Sequence[str], secret: str | None, token: str | None
) -> None:
    """Generate videos until SIGTERM or SIGINT."""
    from proxy.service import running
    from proxy.tracing import set_up_tracing

    os.umask(GROUP_AND_OTHERS)  # videos and the database are for this user only
    set_up_tracing(os.environ)

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, triton_urls, secret, token):
        await stop.wait()
