"""What ``serve`` and ``worker`` have in common: database, store, Tritons, and the tasks that run beside the routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from obstore.exceptions import BaseError as StoreError
from sqlalchemy.exc import SQLAlchemyError

from proxy.files import VideoFiles
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.settings import JobSettings
from proxy.tritons import Tritons
from proxy.waiting import happens
from proxy.worker import Worker

logger = logging.getLogger(__name__)

SWEEP_S = 60.0
ORPHAN_AGE_S = 3600.0  # far longer than any worker takes from the file to the row


@dataclass(frozen=True)
class Service:
    """What the routes work with; one per process."""

    jobs: JobStore
    files: VideoFiles
    tritons: Tritons
    worker: Worker
    metrics: Metrics
    stopping: asyncio.Event


@asynccontextmanager
async def running(settings: JobSettings, triton_urls: Sequence[str], *, work: bool = True) -> AsyncIterator[Service]:
    """Open all of it; with ``work`` videos are made for as long as the block runs."""
    settings.data_path.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        engine = await open_database(sqlite_url(settings.data_path / "jobs.sqlite"))
        stack.push_async_callback(engine.dispose)
        tritons = await stack.enter_async_context(Tritons.connected(triton_urls, settings.jobs_per_triton))
        jobs, files, metrics = JobStore(engine, settings), VideoFiles.local(settings.data_path / "videos"), Metrics()
        worker = Worker(jobs, files, tritons, metrics, settings)
        service = Service(jobs, files, tritons, worker, metrics, asyncio.Event())
        async with asyncio.TaskGroup() as group:
            group.create_task(tritons.watch(service.stopping))
            if work:
                group.create_task(worker.run())
                group.create_task(_sweep(service))
            try:
                yield service
            finally:
                service.stopping.set()
                worker.stop()


async def sweep(jobs: JobStore, files: VideoFiles, orphan_age_s: float = ORPHAN_AGE_S) -> None:
    """Remove what is over its time, and files of a worker that was killed before it could write their row."""
    for job in await jobs.sweep():
        await files.delete(job.file)
    for key in await jobs.unknown(await files.older_than(orphan_age_s)):
        await files.delete(key)


async def _sweep(service: Service) -> None:
    while not service.stopping.is_set():
        try:
            await sweep(service.jobs, service.files)
        except (SQLAlchemyError, StoreError, OSError):
            logger.exception("finished videos could not be swept")
        await happens(service.stopping, SWEEP_S)
