"""Jobs a second through the queue, with a Triton that has nothing to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Progress, Video
from pipeline.families import Inputs, ModelInfo, SamplingParams
from proxy.jobs.database import open_database
from proxy.jobs.model import NewJob
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.settings import WorkSettings
from proxy.tritons import Tritons
from proxy.video_store import VideoStore
from proxy.worker import Worker

SLOTS = 8


class NoOp:
    """Answers at once."""

    url = "no-op"

    def __init__(self, info: ModelInfo):
        self._info = info

    async def status(self) -> dict[str, set[str] | None]:
        return {}

    async def model_info(self) -> ModelInfo:
        return self._info

    async def generate(
        self,
        params: SamplingParams,
        *,
        inputs: Inputs,  # noqa: ARG002 - the client's signature
        return_frames: bool,  # noqa: ARG002 - the client's signature
        job_id: str,  # noqa: ARG002 - the client's signature
        headers: Mapping[str, str],  # noqa: ARG002 - the client's signature
    ) -> AsyncGenerator[Progress | Video]:
        yield Video(b"mp4", b"webp", b"webp", self._info.resolve(params), None)


def jobs_per_second(database_url: str, folder: Path, model_path: Path, jobs: int) -> float:
    """From the first creation to the last completion, all created at once."""
    return asyncio.run(_measure(database_url, folder, Checkpoint.open(model_path).info, jobs))


async def _measure(database_url: str, folder: Path, info: ModelInfo, jobs: int) -> float:
    settings = WorkSettings.model_validate({"max_queued": jobs, "jobs_per_triton": SLOTS})
    database = await open_database(database_url)
    store, metrics, stopping = JobStore(database, settings), Metrics(), asyncio.Event()
    tritons = Tritons([NoOp(info)], SLOTS)  # pyright: ignore[reportArgumentType] - takes its place
    worker = Worker(store, VideoStore.open(folder), tritons, metrics, settings)
    params = SamplingParams(prompt="x", height=64, width=64, num_frames=17, fps=8, seed=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(tritons.watch(stopping))
        group.create_task(worker.run())
        while not tritons.free():
            await asyncio.sleep(0.01)
        begin = time.perf_counter()
        for number in range(jobs):
            await store.create(NewJob(f"key-{number % 10}", info.name, params, body_hash="x"))
            worker.wake()
        while sum((await store.counts()).values()):
            await asyncio.sleep(0.01)
        took = time.perf_counter() - begin
        stopping.set()
        worker.stop()
    await database.close()
    return jobs / took
