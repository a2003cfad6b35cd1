"""Leases, fairness and races of the job table, with a clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.spec import SamplingParams
from proxy.files import VARIANTS, VideoFiles
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.model import NewJob
from proxy.jobs.store import JobStore
from proxy.service import sweep
from proxy.settings import ProxySettings

MODELS = ("shapes",)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


Scenario = Callable[[JobStore, Clock], Coroutine[Any, Any, None]]


@asynccontextmanager
async def opened(folder: Path, clock: Clock, **settings: Any) -> AsyncIterator[JobStore]:
    engine = await open_database(sqlite_url(folder / "jobs.sqlite"))
    try:
        yield JobStore(engine, ProxySettings(**settings), clock)
    finally:
        await engine.dispose()


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def main() -> None:
            clock = Clock()
            async with opened(tmp_path, clock, lease_s=30, max_attempts=2, keep_s=100) as jobs:
                await scenario(jobs, clock)

        asyncio.run(main())

    return run


async def add(jobs: JobStore, prompt: str, owner: str = "a") -> str:
    params = SamplingParams(prompt=prompt, height=64, width=64, num_frames=5, fps=8, seed=1)
    return (await jobs.create(NewJob(owner, "shapes", params, body_hash="x"))).id


async def claimed(jobs: JobStore) -> str | None:
    claim = await jobs.claim(MODELS)
    return claim.job.params.prompt if claim else None


def test_first_come_first_served_within_a_key_and_turns_between_keys(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        for name in ("a1", "a2", "a3", "b1", "a4", "c1", "b2"):
            await add(jobs, name, owner=name[0])
        order = []
        for _ in range(7):
            clock.now += 1
            order.append(await claimed(jobs))
        assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
        assert await claimed(jobs) is None

    play(scenario)


def test_a_lost_workers_job_is_taken_over_once_and_then_interrupted(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        video_id = await add(jobs, "x")
        first = await jobs.claim(MODELS)
        clock.now += 29
        assert await jobs.claim(MODELS) is None
        assert await jobs.renew(first, 10)
        clock.now += 29
        assert await jobs.claim(MODELS) is None, "the lease was renewed"
        clock.now += 2
        second = await jobs.claim(MODELS)
        assert (second.job.id, second.attempt, second.job.progress) == (video_id, 2, 0)
        assert not await jobs.renew(first, 20), "the first worker has lost it"
        assert not await jobs.complete(first, "file")
        assert not await jobs.fail(first, "backend_error", "late")
        clock.now += 31
        assert await jobs.claim(MODELS) is None
        job = await jobs.get("a", video_id)
        assert (job.status, job.error_code) == ("failed", "interrupted")

    play(scenario)


def test_the_clock_steps_back(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        clock.now -= 500
        assert await jobs.claim(MODELS) is None
        assert await jobs.renew(claim, 5)
        assert await jobs.complete(claim, "file")

    play(scenario)


def test_a_released_job_is_the_next_and_counts_no_attempt(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        await add(jobs, "x")
        for _ in range(3):
            claim = await jobs.claim(MODELS)
            assert claim.attempt == 1
            assert await jobs.release(claim)

    play(scenario)


def test_deleted_while_it_runs(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        video_id = await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        assert (await jobs.delete("a", video_id)).id == video_id
        assert await jobs.delete("a", video_id) is None
        assert not await jobs.complete(claim, "file")
        assert await jobs.get("a", video_id) is None, "it does not come back"

    play(scenario)


def test_deleting_races_completion(play):
    """Whichever comes first: no row without its file known to somebody, no file nobody knows of."""

    async def scenario(jobs: JobStore, clock: Clock) -> None:
        for _ in range(200):
            video_id = await add(jobs, "x")
            claim = await jobs.claim(MODELS)
            completed, deleted = await asyncio.gather(jobs.complete(claim, "file"), jobs.delete("a", video_id))
            assert deleted.file == ("file" if completed else None)
            assert await jobs.get("a", video_id) is None

    play(scenario)


def test_finished_jobs_are_swept_when_their_time_is_over(play):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        await add(jobs, "done")
        claim = await jobs.claim(MODELS)
        await jobs.complete(claim, "file")
        await add(jobs, "waits")
        clock.now += 99
        assert await jobs.sweep() == []
        clock.now += 1
        assert [job.file for job in await jobs.sweep()] == ["file"]
        jobs_left, _ = await jobs.page("a", 10, None, newest_first=True)
        assert [job.params.prompt for job in jobs_left] == ["waits"]

    play(scenario)


def test_files_that_no_row_names_are_swept(play, tmp_path):
    async def scenario(jobs: JobStore, clock: Clock) -> None:
        files = VideoFiles.local(tmp_path / "videos")
        await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        kept, lost = [await files.put(claim.job.id, dict.fromkeys(VARIANTS, b"x")) for _ in range(2)]
        await jobs.complete(claim, kept)
        await sweep(jobs, files, orphan_age_s=3600)
        assert sorted(await files.older_than(-1)) == sorted([kept, lost]), "too young to be judged"
        await sweep(jobs, files, orphan_age_s=-1)
        assert await files.older_than(-1) == [kept]
        clock.now += 100
        await sweep(jobs, files)
        assert await files.older_than(-1) == []

    play(scenario)


def test_several_workers_take_every_job_once(tmp_path):
    async def main() -> None:
        clock = Clock()
        async with opened(tmp_path, clock, max_queued=1000) as one, opened(tmp_path, clock) as other:
            for number in range(60):
                await add(one, f"{number}", owner=f"{number % 7}")
            taken: list[str] = []

            async def work(jobs: JobStore) -> None:
                while prompt := await claimed(jobs):
                    taken.append(prompt)

            await asyncio.gather(*(work(jobs) for jobs in (one, other, one, other)))
            assert sorted(taken, key=int) == [str(number) for number in range(60)]

    asyncio.run(main())


def test_the_table_is_that_of_the_migrations(tmp_path):
    """What the code believes and what a database has are the same."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from proxy.jobs.tables import metadata

    async def main() -> None:
        engine = await open_database(sqlite_url(tmp_path / "jobs.sqlite"))
        async with engine.connect() as connection:
            differences = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
            )
        await engine.dispose()
        assert differences == []

    asyncio.run(main())
