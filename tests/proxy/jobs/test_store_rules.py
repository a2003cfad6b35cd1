"""What each statement of the job table leaves alone: other owners, other models, other states."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from pipeline.families import SamplingParams
from proxy.errors import ApiError
from proxy.jobs.database import open_database
from proxy.jobs.model import JobClaim, NewJob
from proxy.jobs.outbox import Outbox
from proxy.jobs.store import JobStore
from proxy.jobs.tables import events, videos
from proxy.settings import WorkSettings
from tests.proxy.jobs.test_store import Clock

LEASE_S, KEEP_S, QUEUE_TIMEOUT_S = 30, 100, 500


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jobs(tmp_path: Path, clock: Clock) -> AsyncIterator[JobStore]:
    database = await open_database(f"sqlite:///{tmp_path}/jobs")
    settings = WorkSettings(
        lease_s=LEASE_S,
        keep_s=KEEP_S,
        queue_timeout_s=QUEUE_TIMEOUT_S,
        max_attempts=2,
        max_queued=3,
        webhook_url="https://receiver.example",
    )
    yield JobStore(database, settings, lambda: clock.now, lambda: clock.passed)
    await database.close()


def new(
    prompt: str = "x", owner: str = "a", model: str = "one", key: str | None = None, body: str = "b"
) -> NewJob:
    params = SamplingParams(prompt=prompt, height=64, width=64, num_frames=5, fps=8, seed=1)
    return NewJob(owner, model, params, body, key)


def code_of(error: ApiError) -> Any:
    body: Any = error.body
    return body["error"]["code"]


async def claim(jobs: JobStore, *models: str) -> JobClaim:
    found = await jobs.claim(models or ("one",))
    assert found is not None
    return found


async def test_two_owners_with_one_idempotency_key_have_a_job_each(jobs: JobStore) -> None:
    mine = await jobs.create(new(key="once"))
    assert (await jobs.create(new(key="once"))).id == mine.id
    assert (await jobs.create(new(owner="b", key="once"))).id != mine.id
    assert (await jobs.create(new(key="twice"))).id != mine.id


async def test_idempotency_key_with_another_body_is_a_conflict(jobs: JobStore) -> None:
    await jobs.create(new(key="once"))
    with pytest.raises(ApiError) as caught:
        await jobs.create(new(key="once", body="other"))
    assert (caught.value.status, code_of(caught.value)) == (
        409,
        "idempotency_conflict",
    )


async def test_full_queue_refuses_one_more(jobs: JobStore) -> None:
    for _ in range(3):
        await jobs.create(new())
    with pytest.raises(ApiError) as caught:
        await jobs.create(new())
    assert (caught.value.status, code_of(caught.value)) == (429, "queue_full")
    await claim(jobs)
    await jobs.create(new())


async def test_new_job_has_made_nothing(jobs: JobStore, clock: Clock) -> None:
    job = await jobs.create(new())
    assert (job.status, job.progress, job.created_at) == ("queued", 0, clock.now)
    assert (await claim(jobs)).attempt == 1


async def test_worker_claims_only_models_that_it_serves(jobs: JobStore) -> None:
    await jobs.create(new("for one", model="one"))
    await jobs.create(new("for two", model="two"))
    assert await jobs.claim(("three",)) is None
    assert (await claim(jobs, "two", "three")).job.params.prompt == "for two"
    assert await jobs.claim(("two", "three")) is None
    assert (await claim(jobs, "one")).job.params.prompt == "for one"


async def test_worker_takes_over_only_models_that_it_serves(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(new(model="one"))
    lost = await claim(jobs, "one")
    assert await jobs.claim(("two",)) is None
    clock.wait(LEASE_S + 1)
    assert await jobs.claim(("two",)) is None
    assert await jobs.renew(lost, 1), "nobody has taken it"
    clock.wait(LEASE_S + 1)
    assert await jobs.claim(("two",)) is None
    clock.wait(LEASE_S + 1)
    assert (await claim(jobs, "one")).job.id == lost.job.id


async def test_heartbeat_during_a_takeover_keeps_the_job(
    jobs: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create(new())
    busy = await claim(jobs)
    assert await jobs.claim(("one",)) is None
    clock.wait(LEASE_S + 1)
    look = jobs._observe_leases

    async def look_just_before_a_heartbeat(connection) -> None:
        await look(connection)
        await connection.execute(update(videos).values(lease_beats=videos.c.lease_beats + 1))

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_observe_leases", look_just_before_a_heartbeat)
        assert await jobs.claim(("one",)) is None
    assert await jobs.renew(busy, 1)


async def test_heartbeat_of_a_last_attempt_during_a_takeover_does_not_fail_it(
    jobs: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create(new())
    assert await jobs.retry(await claim(jobs))
    busy = await claim(jobs)
    assert busy.attempt == 2
    assert await jobs.claim(("one",)) is None
    clock.wait(LEASE_S + 1)
    look = jobs._observe_leases

    async def look_just_before_a_heartbeat(connection) -> None:
        await look(connection)
        await connection.execute(update(videos).values(lease_beats=videos.c.lease_beats + 1))

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_observe_leases", look_just_before_a_heartbeat)
        assert await jobs.claim(("one",)) is None
    job = await jobs.get("a", busy.job.id)
    assert job is not None
    assert job.status == "in_progress"


async def test_queue_timeout_fails_queued_jobs_only(jobs: JobStore, clock: Clock) -> None:
    running = await jobs.create(new("running"))
    busy = await claim(jobs)
    waiting = await jobs.create(new("waiting"))
    clock.wait(QUEUE_TIMEOUT_S - 1)
    await jobs.sweep()
    assert (await jobs.get("a", waiting.id)).status == "queued"
    clock.wait(1)
    await jobs.sweep()
    job = await jobs.get("a", waiting.id)
    assert (job.status, job.error_code) == ("failed", "timeout")
    assert (await jobs.get("a", running.id)).status == "in_progress"
    assert await jobs.complete(busy, "file")


async def test_finished_job_is_kept_for_its_time(jobs: JobStore, clock: Clock) -> None:
    created = await jobs.create(new())
    clock.wait(5)
    busy = await claim(jobs)
    assert busy.job.started_at == clock.now
    clock.wait(5)
    assert await jobs.complete(busy, "file")
    job = await jobs.get("a", created.id)
    assert (job.status, job.progress, job.file) == ("completed", 100, "file")
    assert (job.completed_at, job.expires_at) == (clock.now, clock.now + KEEP_S)
    clock.wait(KEEP_S - 1)
    assert await jobs.sweep() == []
    clock.wait(1)
    assert [swept.id for swept in await jobs.sweep()] == [created.id]


async def test_retry_counts_attempts_and_release_does_not(jobs: JobStore) -> None:
    created = await jobs.create(new())
    assert await jobs.renew(first := await claim(jobs), 40)
    assert await jobs.release(first)
    job = await jobs.get("a", created.id)
    assert (job.status, job.progress) == ("queued", 0)
    assert await jobs.renew(again := await claim(jobs), 40)
    assert again.attempt == 1
    assert not await jobs.release(first), "its lease is over"
    assert await jobs.retry(again)
    assert not await jobs.retry(again), "its lease is over"
    job = await jobs.get("a", created.id)
    assert (job.status, job.progress) == ("queued", 0)
    last = await claim(jobs)
    assert (last.attempt, last.job.progress) == (2, 0)
    assert not await jobs.retry(last), "it was the last attempt"
    assert await jobs.fail(last, "backend_error", "no")


async def test_heartbeat_stores_the_progress(jobs: JobStore) -> None:
    created = await jobs.create(new())
    busy = await claim(jobs)
    assert await jobs.renew(busy, 40)
    assert (await jobs.get("a", created.id)).progress == 40
    assert not await jobs.renew(JobClaim(busy.job, "another token", 1), 50)
    assert (await jobs.get("a", created.id)).progress == 40


async def test_owner_sees_and_changes_own_jobs_only(jobs: JobStore) -> None:
    created = await jobs.create(new())
    assert await jobs.get("b", created.id) is None
    assert await jobs.cancel("b", created.id) is None
    assert await jobs.delete("b", created.id) is None
    assert await jobs.page("b", 10, None, newest_first=True) == ([], False)
    with pytest.raises(ApiError):
        await jobs.page("b", 10, created.id, newest_first=True)
    assert (await jobs.get("a", created.id)).status == "queued"
    assert [job.id for job in await jobs.current([created.id, "video_none"])] == [created.id]


async def test_pages_follow_the_order_of_arrival(jobs: JobStore) -> None:
    ids = [(await jobs.create(new(f"{number}"))).id for number in range(3)]

    async def page(limit: int, after: str | None, newest_first: bool) -> tuple[list[str], bool]:
        found, more = await jobs.page("a", limit, after, newest_first=newest_first)
        return [job.id for job in found], more

    assert await page(2, None, False) == (ids[:2], True)
    assert await page(2, ids[1], False) == (ids[2:], False)
    assert await page(3, None, True) == (ids[::-1], False)
    assert await page(1, ids[2], True) == ([ids[1]], True)


async def test_cancel_fails_unfinished_jobs_only(jobs: JobStore) -> None:
    queued, running = await jobs.create(new()), await jobs.create(new(owner="b"))
    busy = await claim(jobs)
    assert busy.job.id == queued.id
    for owner, job_id in (("a", queued.id), ("b", running.id)):
        cancelled = await jobs.cancel(owner, job_id)
        assert (cancelled.status, cancelled.error_code) == ("failed", "cancelled")
        assert await jobs.cancel(owner, job_id) is None
    assert not await jobs.complete(busy, "file")


async def test_counts_are_of_unfinished_jobs(jobs: JobStore) -> None:
    assert await jobs.counts() == {"queued": 0, "in_progress": 0}
    for _ in range(3):
        await jobs.create(new())
    await jobs.complete(await claim(jobs), "file")
    await claim(jobs)
    assert await jobs.counts() == {"queued": 1, "in_progress": 1}


async def test_unknown_files_are_those_that_no_job_names(
    jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.jobs.store.NAMES_A_QUERY", 2)
    await jobs.create(new())
    await jobs.complete(await claim(jobs), "kept")
    assert await jobs.unknown(["1", "2", "kept", "3", "4"]) == ["1", "2", "3", "4"]


async def test_every_final_job_is_told_to_the_webhook_once(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(new())
    await jobs.complete(await claim(jobs), "file")
    cancelled = await jobs.create(new())
    await jobs.cancel("a", cancelled.id)
    await jobs.create(new())
    clock.wait(QUEUE_TIMEOUT_S)
    await jobs.sweep()
    async with jobs._database.begin() as connection:
        assert len((await connection.execute(select(events))).all()) == 3
    box = Outbox(jobs._database, lambda: clock.now)
    told = [event.body for event in await box.take(10)]
    assert ["video.completed" in body for body in told].count(True) == 1
    assert all(f'"created_at": {int(clock.now)}' in body for body in told[-1:])


async def test_full_disk_queues_and_begins_nothing(
    jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jobs.create(new(key="once"))
    monkeypatch.setattr(JobStore, "short_of_space", True)
    assert await jobs.claim(("one",)) is None
    with pytest.raises(ApiError) as caught:
        await jobs.create(new())
    assert caught.value.status == 507
    assert (await jobs.create(new(key="once"))).status == "queued", "made before"


async def test_keys_take_turns_by_the_longest_wait(jobs: JobStore) -> None:
    for owner in "aab":
        await jobs.create(new(owner=owner))
    order = [(await claim(jobs)).job.owner for _ in range(3)]
    await jobs.create(new(owner="a"))
    await jobs.create(new(owner="c"))
    await jobs.create(new(owner="b"))
    order += [(await claim(jobs)).job.owner for _ in range(3)]
    assert "".join(order) == "aba" + "cba"
