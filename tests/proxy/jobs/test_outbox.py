"""When an event is due, and how often it is tried, by a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.jobs.database import Database, open_database
from proxy.jobs.outbox import PAUSES_S, SENDING_S, Outbox, note

NOW = 1_000_000.25


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(f"sqlite:///{tmp_path}/jobs")
    yield database
    await database.close()


@pytest.fixture
def box(database: Database, now: list[float]) -> Outbox:
    return Outbox(database, lambda: now[0])


async def add(database: Database, *rows: tuple[str, str], at: float = NOW) -> None:
    finished: Any = [{"id": name, "status": status} for name, status in rows]
    async with database.begin() as connection:
        await note(connection, finished, at)


async def test_event_tells_which_video_ended_how(database: Database, box: Outbox) -> None:
    await add(database, ("video_a", "completed"), ("video_b", "failed"))
    bodies = [json.loads(event.body) for event in await box.take(10)]
    assert [(body["type"], body["data"]) for body in bodies] == [
        ("video.completed", {"id": "video_a"}),
        ("video.failed", {"id": "video_b"}),
    ]
    assert {(body["object"], body["created_at"]) for body in bodies} == {("event", 1_000_000)}
    assert len({body["id"] for body in bodies}) == 2
    assert all(body["id"].startswith("evt_") and len(body["id"]) == 36 for body in bodies)


async def test_event_is_due_at_once_and_taken_by_one_sender(
    database: Database, box: Outbox, now: list[float]
) -> None:
    await add(database, ("video_a", "completed"))
    (event,) = await box.take(10)
    assert (event.attempts, event.id) == (1, json.loads(event.body)["id"])
    assert await box.take(10) == []
    now[0] += SENDING_S - 1
    assert await box.take(10) == []
    now[0] += 1
    (again,) = await box.take(10)
    assert (again.id, again.body, again.attempts) == (event.id, event.body, 2)


async def test_oldest_events_are_taken_first_and_few_at_a_time(
    database: Database, box: Outbox
) -> None:
    for name, at in (("late", NOW), ("early", NOW - 2), ("middle", NOW - 1), ("future", NOW + 1)):
        await add(database, (name, "completed"), at=at)
    taken = [await box.take(2), await box.take(2)]
    names = [sorted(json.loads(event.body)["data"]["id"] for event in events) for events in taken]
    assert names == [["early", "middle"], ["late"]]


async def test_pauses_grow_until_the_event_is_given_up(
    database: Database, box: Outbox, now: list[float]
) -> None:
    await add(database, ("video_a", "completed"))
    for pause in PAUSES_S:
        (event,) = await box.take(1)
        assert await box.later(event)
        now[0] += pause - 1
        assert await box.take(1) == []
        now[0] += 1
    (last,) = await box.take(1)
    assert last.attempts == len(PAUSES_S) + 1
    assert not await box.later(last)
    now[0] += 1e9
    assert await box.take(1) == []


async def test_only_the_event_itself_is_done_or_put_off(
    database: Database, box: Outbox, now: list[float]
) -> None:
    await add(database, *[(f"video_{number}", "completed") for number in range(3)])
    first, second, third = await box.take(3)
    await box.done(second)
    await box.later(third)
    now[0] += PAUSES_S[0]
    assert [event.id for event in await box.take(3)] == [third.id]
    now[0] += SENDING_S
    assert sorted(event.id for event in await box.take(3)) == sorted([first.id, third.id])


async def test_nothing_finished_notes_nothing(database: Database, box: Outbox) -> None:
    await add(database)
    assert await box.take(10) == []


def test_pauses_are_those_of_standard_webhooks() -> None:
    minutes = [pause / 60 for pause in PAUSES_S[1:]]
    assert PAUSES_S[0] == 5
    assert minutes == [5, 30, 2 * 60, 5 * 60, 10 * 60, 14 * 60, 20 * 60, 24 * 60]
    assert SENDING_S == 120
