"""Leases, fairness and races of the job table, on each database, with clocks that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipeline.families import SamplingParams
from proxy.errors import ApiError
from proxy.jobs.database import open_database
from proxy.jobs.model import NewJob
from proxy.jobs.store import JobStore
from proxy.service import sweep
from proxy.settings import ProxySettings
from proxy.video_store import VARIANTS, VideoStore

MODELS = ("shapes",)


class Clock:
    """A time of day that tests set (``now``) and a monotonic time; ``wait`` moves both."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self.passed = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.passed += seconds


@asynccontextmanager
async def opened(url: str, clock: Clock, **settings: Any) -> AsyncIterator[JobStore]:
    database = await open_database(url)
    try:
        yield JobStore(database, ProxySettings(**settings), lambda: clock.now, lambda: clock.passed)
    finally:
        await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jobs(database_url: str, clock: Clock) -> AsyncIterator[JobStore]:
    async with opened(database_url, clock, lease_s=30, max_attempts=2, keep_s=100) as jobs:
        yield jobs


async def add(
    jobs: JobStore, prompt: str, owner: str = "a", key: str | None = None, body: str = "x"
) -> str:
    params = SamplingParams(prompt=prompt, height=64, width=64, num_frames=5, fps=8, seed=1)
    return (await jobs.create(NewJob(owner, "shapes", params, body, key))).id


async def claimed(jobs: JobStore) -> str | None:
    claim = await jobs.claim(MODELS)
    return claim.job.params.prompt if claim else None


async def test_jobs_are_served_in_order_within_a_key_and_in_turns_between_keys(jobs, clock):
    for name in ("a1", "a2", "a3", "b1", "a4", "c1", "b2"):
        await add(jobs, name, owner=name[0])
    order = []
    for _ in range(7):
        clock.wait(1)
        order.append(await claimed(jobs))
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert await claimed(jobs) is None


async def test_lost_job_is_taken_over_once_and_then_interrupted(jobs, clock):
    video_id = await add(jobs, "x")
    first = await jobs.claim(MODELS)
    assert await jobs.claim(MODELS) is None
    clock.wait(29)
    assert await jobs.renew(first, 10)
    clock.wait(29)
    assert await jobs.claim(MODELS) is None, "the lease was renewed"
    clock.wait(2)
    second = await jobs.claim(MODELS)
    assert (second.job.id, second.attempt, second.job.progress) == (video_id, 2, 0)
    assert not await jobs.renew(first, 20), "the first worker lost its lease"
    assert not await jobs.complete(first, "file")
    assert not await jobs.fail(first, "backend_error", "late")
    assert await jobs.claim(MODELS) is None
    clock.wait(31)
    assert await jobs.claim(MODELS) is None
    job = await jobs.get("a", video_id)
    assert (job.status, job.error_code) == ("failed", "interrupted")


async def test_process_does_not_take_over_its_own_job(jobs, clock):
    """A slow disk delays heartbeats."""
    await add(jobs, "x")
    own = await jobs.claim(MODELS)
    clock.wait(31)
    assert await jobs.claim(MODELS, {own.token}) is None
    assert await jobs.renew(own, 10)
    clock.wait(31)
    assert (await jobs.claim(MODELS, {"another"})).attempt == 2


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_setting_the_clock_moves_no_lease(jobs, clock, step):
    """A living worker keeps its job, and a lost one loses it after the usual time."""
    video_id = await add(jobs, "x")
    alive = await jobs.claim(MODELS)
    assert await jobs.claim(MODELS) is None
    clock.now += step
    assert await jobs.claim(MODELS) is None, "the job does not run twice"
    assert await jobs.renew(alive, 5)
    assert await jobs.claim(MODELS) is None
    clock.wait(31)
    assert (await jobs.claim(MODELS)).attempt == 2, "the lease of the lost worker expired"
    assert not await jobs.complete(alive, "file")
    assert (await jobs.get("a", video_id)).status == "in_progress"


async def test_released_job_is_next_and_counts_no_attempt(jobs, clock):
    await add(jobs, "x")
    for _ in range(3):
        claim = await jobs.claim(MODELS)
        assert claim.attempt == 1
        assert await jobs.release(claim)


async def test_running_job_can_be_deleted(jobs, clock):
    video_id = await add(jobs, "x")
    claim = await jobs.claim(MODELS)
    assert (await jobs.delete("a", video_id)).id == video_id
    assert await jobs.delete("a", video_id) is None
    assert not await jobs.complete(claim, "file")
    assert await jobs.get("a", video_id) is None, "it does not come back"


async def test_delete_and_complete_never_leave_an_unknown_file(jobs, clock):
    """Whichever comes first: no row loses its file, and no file is without a row."""
    for _ in range(200):
        video_id = await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        completed, deleted = await asyncio.gather(
            jobs.complete(claim, "file"), jobs.delete("a", video_id)
        )
        assert deleted.file == ("file" if completed else None)
        assert await jobs.get("a", video_id) is None


async def test_sweep_removes_expired_jobs(jobs, clock):
    await add(jobs, "done")
    claim = await jobs.claim(MODELS)
    await jobs.complete(claim, "file")
    await add(jobs, "waits")
    clock.wait(99)
    assert await jobs.sweep() == []
    clock.wait(1)
    assert [job.file for job in await jobs.sweep()] == ["file"]
    jobs_left, _ = await jobs.page("a", 10, None, newest_first=True)
    assert [job.params.prompt for job in jobs_left] == ["waits"]


async def test_sweep_removes_orphaned_files(jobs, clock, tmp_path):
    files = VideoStore.open(tmp_path / "videos")
    await add(jobs, "x")
    claim = await jobs.claim(MODELS)
    kept, lost = [await files.put(claim.job.id, dict.fromkeys(VARIANTS, b"x")) for _ in range(2)]
    await jobs.complete(claim, kept)
    await sweep(jobs, files, orphan_age_s=3600)
    assert sorted(await files.older_than(-1)) == sorted([kept, lost]), "young orphans are kept"
    await sweep(jobs, files, orphan_age_s=-1)
    assert await files.older_than(-1) == [kept]
    clock.wait(100)
    await sweep(jobs, files)
    assert await files.older_than(-1) == []


async def test_concurrent_workers_take_every_job_once(database_url):
    clock = Clock()
    async with (
        opened(database_url, clock, max_queued=1000) as one,
        opened(database_url, clock) as other,
    ):
        for number in range(100):
            await add(one, f"{number}", owner=f"{number % 7}")
        taken: list[str] = []

        async def work(jobs: JobStore) -> None:
            while prompt := await claimed(jobs):
                taken.append(prompt)

        await asyncio.gather(*(work(jobs) for jobs in (one, other) * 8))
        assert sorted(taken, key=int) == [str(number) for number in range(100)]


async def test_tables_match_the_migrations(database_url):
    """The tables of the code are those of an upgraded database."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from proxy.jobs.tables import metadata

    database = await open_database(database_url)
    async with database.begin() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await database.close()
    assert differences == []


async def test_concurrent_creates_respect_the_queue_limit(database_url):
    clock = Clock()
    async with (
        opened(database_url, clock, max_queued=5) as one,
        opened(database_url, clock, max_queued=5) as other,
    ):
        answers = await asyncio.gather(
            *(add(jobs, "x") for jobs in (one, other) * 10), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, ApiError)]
        assert (len(answers) - len(refused), {error.status for error in refused}) == (5, {429})


async def test_concurrent_creates_with_one_idempotency_key_make_one_job(database_url):
    clock = Clock()
    async with opened(database_url, clock) as one, opened(database_url, clock) as other:
        for key in map(str, range(10)):
            ids = await asyncio.gather(*(add(jobs, "x", key=key) for jobs in (one, other) * 4))
            assert len(set(ids)) == 1
        answers = await asyncio.gather(
            *(add(one, "x", key="contested", body=body) for body in "ab" * 3),
            return_exceptions=True,
        )
        assert [isinstance(answer, ApiError) and answer.status for answer in answers].count(
            409
        ) == 3


async def test_deleting_videos_gains_no_turns(jobs, clock):
    """A key with many jobs delays another key by one job only."""
    for number in range(6):
        await add(jobs, f"a{number}", owner="a")
        await add(jobs, f"b{number}", owner="b")
    order = ""
    for _ in range(12):
        clock.now -= 100  # whatever the time of day does meanwhile
        claim = await jobs.claim(MODELS)
        order += claim.job.owner
        await jobs.complete(claim, claim.job.id)
        if claim.job.owner == "a":
            await jobs.delete("a", claim.job.id)
    assert order == "ab" * 6


async def test_concurrent_claims_respect_turns(database_url):
    clock = Clock()
    async with opened(database_url, clock) as one, opened(database_url, clock) as other:
        for number in range(20):
            await add(one, f"{number}", owner="many")
        for owner in "bcd":
            await add(one, owner, owner=owner)
        claims = await asyncio.gather(*(jobs.claim(MODELS) for jobs in (one, other) * 2))
        assert sorted(claim.job.owner for claim in claims) == ["b", "c", "d", "many"]


async def test_claim_never_returns_a_deleted_or_cancelled_job(jobs, clock):
    """A claimed job is never one that was deleted or cancelled."""
    for number in range(40):
        video_id = await add(jobs, "x")
        stop = jobs.delete if number % 2 else jobs.cancel
        claim, stopped = await asyncio.gather(jobs.claim(MODELS), stop("a", video_id))
        assert stopped, "a queued job and a running one can both be stopped"
        assert claim is None or not await jobs.renew(claim, 1)
        assert await jobs.claim(MODELS) is None


async def test_complete_can_be_repeated_after_a_lost_response(jobs, clock):
    video_id = await add(jobs, "x")
    claim = await jobs.claim(MODELS)
    assert await jobs.complete(claim, "file")
    clock.wait(5)
    assert await jobs.complete(claim, "file"), "the same worker completed it"
    assert not await jobs.complete(claim, "another file")
    assert (await jobs.get("a", video_id)).completed_at == clock.now - 5


async def test_busy_workers_notice_a_lost_worker(jobs, clock):
    for prompt in ("lost", "busy", "waits"):
        await add(jobs, prompt)
    await jobs.claim(MODELS)
    busy = await jobs.claim(MODELS)
    for _ in range(4):
        assert await jobs.renew(busy, 1)
        clock.wait(10)
    assert await claimed(jobs) == "lost"


async def test_impossible_video_id_is_not_found(jobs, clock):
    for video_id in ("video_\0", "\0", "x" * 10_000, "video_'; --", "%"):
        assert await jobs.get("a", video_id) is None
        assert await jobs.delete("a", video_id) is None
        assert await jobs.cancel("a", video_id) is None
