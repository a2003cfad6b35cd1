"""The FastAPI application: opens the database and the store, runs the worker and the sweeper, answers the routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from obstore.exceptions import BaseError as StoreError
from sqlalchemy.exc import SQLAlchemyError

from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from proxy import errors
from proxy.body import BodyLimit
from proxy.context import Context
from proxy.files import VideoFiles
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.store import JobStore
from proxy.keys import Keys
from proxy.request_id import RequestId
from proxy.routes import content, operation, videos
from proxy.settings import ProxySettings
from proxy.worker import Worker, happens

logger = logging.getLogger(__name__)

SWEEP_S = 300.0
ORPHAN_AGE_S = 3600.0  # far longer than any worker takes from the file to the row
ASK_TRITON_S = 1.0


def create_app(settings: ProxySettings, triton_url: str, keys: Iterable[str]) -> FastAPI:
    """The application in front of the Triton at ``triton_url``; without ``keys`` everybody is let in."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(settings, triton_url) as running:
            app.state.context = running
            yield

    app = FastAPI(title="triton-video", lifespan=lifespan)
    app.state.settings, app.state.keys = settings, Keys(keys)
    errors.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    for module in (operation, content, videos):
        app.include_router(module.router)
    return app


@asynccontextmanager
async def _running(settings: ProxySettings, triton_url: str) -> AsyncIterator[Context]:
    settings.data_path.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        engine = await open_database(sqlite_url(settings.data_path / "jobs.sqlite"))
        stack.push_async_callback(engine.dispose)
        triton = await stack.enter_async_context(AsyncVideoClient(triton_url))
        jobs, files = JobStore(engine, settings), VideoFiles.local(settings.data_path / "videos")
        worker = Worker(jobs, files, triton, settings)
        running = Context(jobs, files, triton, worker)
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for work in (worker.run(), _sweep(jobs, files, stopping), _learn_model(running, stopping)):
                group.create_task(work)
            try:
                yield running
            finally:
                stopping.set()
                worker.stop()


async def sweep(jobs: JobStore, files: VideoFiles, orphan_age_s: float = ORPHAN_AGE_S) -> None:
    """Remove what is over its time, and files of a worker that was killed before it could write their row."""
    for job in await jobs.sweep():
        await files.delete(job.file)
    for key in await jobs.unknown(await files.older_than(orphan_age_s)):
        await files.delete(key)


async def _sweep(jobs: JobStore, files: VideoFiles, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            await sweep(jobs, files)
        except (SQLAlchemyError, StoreError, OSError):
            logger.exception("finished videos could not be swept")
        await happens(stopping, SWEEP_S)


async def _learn_model(running: Context, stopping: asyncio.Event) -> None:
    while running.model is None and not stopping.is_set():
        try:
            running.model = await running.triton.model_info()
        except ServerError:
            await happens(stopping, ASK_TRITON_S)
