"""Events for the webhook, written in the transaction of the job, so that none is lost or false."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.jobs.database import Database
from proxy.jobs.model import COMPLETED
from proxy.jobs.tables import events

# Seconds after each failed attempt until the next one, as Standard Webhooks suggests.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
SENDING_S = 120.0  # longer than an attempt; after it another process tries


@dataclass(frozen=True)
class Event:
    """A webhook event. ``body`` is sent byte for byte the same at each attempt."""

    number: int
    id: str
    body: str
    attempts: int


class Outbox:
    """The table ``events``. ``clock`` returns unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    async def take(self, count: int) -> list[Event]:
        """Take up to ``count`` due events; no other process gets them for ``SENDING_S``."""
        now = self._clock()
        async with self._database.exclusive() as connection:
            due = (
                select(events.c.number)
                .where(events.c.next_at <= now)
                .order_by(events.c.next_at)
                .limit(count)
            )
            numbers = (await connection.execute(due)).scalars().all()
            if not numbers:
                return []
            update = events.update().where(events.c.number.in_(numbers))
            taken = update.values(
                next_at=now + SENDING_S, attempts=events.c.attempts + 1
            ).returning(events)
            rows = (await connection.execute(taken)).mappings().all()
        return [Event(row["number"], row["id"], row["body"], row["attempts"]) for row in rows]

    async def done(self, event: Event) -> None:
        """Remove an event that was delivered or given up."""
        async with self._database.begin() as connection:
            await connection.execute(events.delete().where(events.c.number == event.number))

    async def later(self, event: Event) -> bool:
        """Schedule another attempt. Return False if the event is given up after the last one."""
        if event.attempts > len(PAUSES_S):
            await self.done(event)
            return False
        next_at = self._clock() + PAUSES_S[event.attempts - 1]
        async with self._database.begin() as connection:
            await connection.execute(
                events.update().where(events.c.number == event.number).values(next_at=next_at)
            )
        return True


async def note(connection: AsyncConnection, finished: Iterable[RowMapping], now: float) -> None:
    """Write an event for each of these rows of ``videos``, which just became final."""
    made = [_event(row, now) for row in finished]
    if made:
        await connection.execute(events.insert(), made)


def _event(row: RowMapping, now: float) -> dict[str, Any]:
    event_id = f"evt_{secrets.token_hex(16)}"
    body = {
        "id": event_id,
        "object": "event",
        "created_at": int(now),
        "type": "video.completed" if row["status"] == COMPLETED else "video.failed",
        "data": {"id": row["id"]},
    }
    return {"id": event_id, "body": json.dumps(body), "attempts": 0, "next_at": now}
