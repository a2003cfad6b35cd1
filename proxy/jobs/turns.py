"""Whose turn it is: the owner that was served longest ago, and of that one the oldest job.

One key with a hundred jobs so keeps another waiting for no more than one. Turns are counted and not
timed, so that fairness does not depend on the time of day; and they are kept apart from the videos,
which owners delete.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.jobs.model import QUEUED
from proxy.jobs.tables import turns, videos


async def next_in_turn(connection: AsyncConnection, models: Collection[str]) -> int | None:
    """The number of the next job for one of ``models``; its owner has had a turn now. For
    exclusive transactions.
    """
    query = (
        select(videos.c.number, videos.c.owner)
        .outerjoin(turns, turns.c.owner == videos.c.owner)
        .where(videos.c.status == QUEUED, videos.c.model.in_(models))
        .order_by(func.coalesce(turns.c.turn, 0), videos.c.number)
        .limit(1)
        # PostgreSQL: one that is being deleted or cancelled at this moment is left out, not waited
        # for.
        .with_for_update(of=videos, skip_locked=True)
    )
    found = (await connection.execute(query)).first()
    if found is None:
        return None
    turn = select(func.coalesce(func.max(turns.c.turn), 0) + 1).scalar_subquery()
    served = turns.update().where(turns.c.owner == found.owner).values(turn=turn)
    if (await connection.execute(served)).rowcount == 0:
        await connection.execute(turns.insert().values(owner=found.owner, turn=turn))
    return found.number
