"""``triton-video worker``: makes the videos that proxies queue, without HTTP of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import cast

import click

from cli.logs import logging_to_stderr
from cli.params.credentials import webhook_secret
from cli.params.groups import WORKER_GROUPS, LogParams, WorkerServersParams
from cli.params.options import GroupedCommand
from cli.params.sources import check_groups, heard
from cli.run.triton_token import known_token
from pipeline.system.private import OTHERS
from proxy.settings import WorkSettings

HELP = """Make the videos that `triton-video serve` queues.

For a fleet: any number of workers and of servers (with --no-worker, if they should only answer) share one database and
one store. SIGTERM puts the jobs in hand back into the queue.
"""


def command() -> click.Command:
    """The click command; its options are made from the models in `cli.params.groups`."""
    return GroupedCommand("worker", WORKER_GROUPS, callback=_worker, help=HELP)


@click.pass_context
def _worker(ctx: click.Context, /, **values: object) -> None:
    files = {"webhook": lambda webhook: webhook_secret(webhook, os.environ)}
    groups = check_groups(heard(ctx, values, WORKER_GROUPS), WORKER_GROUPS, files)
    log = cast(LogParams, groups["log"])
    ctx.meta["style"].verbose = log.verbose
    settings = WorkSettings(**dict(groups["jobs"]), **dict(groups["webhook"]))
    secret = webhook_secret(settings, os.environ)
    server = cast(WorkerServersParams, groups["server"])
    token = known_token(server, server.triton_url, os.environ)
    with logging_to_stderr(log.log_format, quiet=log.quiet, verbose=log.verbose):
        asyncio.run(work(settings, server.triton_url, secret, token))


async def work(
    settings: WorkSettings, triton_urls: Sequence[str], secret: str | None, token: str | None
) -> None:
    """Make videos until SIGTERM or SIGINT comes."""
    from proxy.service import running
    from proxy.tracing import set_up_tracing

    os.umask(OTHERS)  # videos and the database are for this user only
    set_up_tracing(os.environ)

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, triton_urls, secret, token):
        await stop.wait()
