"""The service behind ``serve`` and ``worker``: database, store, Tritons and background tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from obstore.exceptions import BaseError as StoreError

from proxy.errors import DatabaseUnavailableError
from proxy.jobs.outbox import Outbox
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.outbound import outbound_client
from proxy.own_triton import OwnTriton
from proxy.previews import Previews
from proxy.readiness import Readiness
from proxy.settings import WorkSettings
from proxy.storage import open_storage
from proxy.tritons import Tritons
from proxy.updates import Updates
from proxy.video_store import VideoStore
from proxy.waiting import wait_for_event
from proxy.webhooks import ANSWER_TIMEOUT_S, WebhookSender
from proxy.worker import Worker

logger = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 60.0
# Longer than a worker takes from the file to the row, even with a clock that is an hour off.
ORPHAN_AGE_S = 7200.0


@dataclass(frozen=True)
class Service:
    """The parts of the service of one process."""

    jobs: JobStore
    store: VideoStore
    tritons: Tritons
    worker: Worker
    metrics: Metrics
    readiness: Readiness
    updates: Updates
    previews: Previews
    stopping: asyncio.Event


@asynccontextmanager
async def running(
    settings: WorkSettings,
    triton_urls: Sequence[str],
    webhook_secret: str | None = None,
    triton_token: str | None = None,
    *,
    work: bool = True,
    own: OwnTriton | None = None,
) -> AsyncIterator[Service]:
    """Run a service for the duration of the block. With ``work``, it also makes videos.

    ``own`` is the Triton that this process starts.
    """
    async with AsyncExitStack() as stack:
        database, store = await stack.enter_async_context(open_storage(settings))
        jobs = JobStore(database, settings)
        connected = Tritons.connected(
            triton_urls, settings.jobs_per_triton, settings.hang_timeout_s, triton_token, own
        )
        tritons = await stack.enter_async_context(connected)
        metrics, previews = Metrics(), Previews()
        worker = Worker(jobs, store, tritons, metrics, settings, previews)
        readiness, updates = Readiness(jobs, store, tritons), Updates(jobs)
        worker.add_listener(updates.wake)
        previews.add_listener(updates.repeat)
        service = Service(
            jobs, store, tritons, worker, metrics, readiness, updates, previews, asyncio.Event()
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(tritons.watch(service.stopping))
            group.create_task(updates.run())
            if settings.webhook_url and webhook_secret:
                client = outbound_client(
                    allow_private=settings.webhook_allow_private, timeout_s=ANSWER_TIMEOUT_S
                )
                await stack.enter_async_context(client)
                sender = WebhookSender(
                    Outbox(database), client, settings.webhook_url, webhook_secret, metrics
                )
                group.create_task(sender.run(service.stopping))
            if work:
                group.create_task(worker.run())
                group.create_task(_sweep(service))
            try:
                yield service
            finally:
                updates.close()
                service.stopping.set()
                worker.stop()


async def sweep(jobs: JobStore, store: VideoStore, orphan_age_s: float = ORPHAN_AGE_S) -> None:
    """Remove expired videos, and orphaned files: those of a worker that was killed before it
    could write their row.
    """
    for job in await jobs.sweep():
        await store.delete(*job.files)
    for key in await jobs.unknown(await store.older_than(orphan_age_s)):
        await store.delete(key)


async def _sweep(service: Service) -> None:
    while not service.stopping.is_set():
        try:
            await sweep(service.jobs, service.store)
        except (DatabaseUnavailableError, StoreError, OSError) as error:
            logger.warning("finished videos could not be swept: %s", type(error).__name__)
        await wait_for_event(service.stopping, SWEEP_INTERVAL_S)
