"""What is to be told to the webhook, kept in the job's own transaction: no event is lost, none
is made up.
"""

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

# Seconds until the next attempt, after each one that failed; as Standard Webhooks suggests.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
SENDING_S = 120.0  # longer than an attempt takes: then its process is gone, and another one tries


@dataclass(frozen=True)
class Event:
    """``body`` is what is sent, byte for byte the same at each attempt."""

    number: int
    id: str
    body: str
    attempts: int


class Outbox:
    """The table ``events``. ``clock`` gives unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database = database
        self._clock = clock

    async def take(self, count: int) -> list[Event]:
        """Up to ``count`` events whose time has come; nobody else gets them for a while."""
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
        """It was delivered, or is given up."""
        async with self._database.begin() as connection:
            await connection.execute(events.delete().where(events.c.number == event.number))

    async def later(self, event: Event) -> bool:
        """It will be tried again after a pause. False when there were enough attempts: it is
        given up.
        """
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
    """Keep an event for each of these rows of ``videos``, which just became final."""
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
