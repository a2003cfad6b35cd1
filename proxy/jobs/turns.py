"""Fair turns: the next job is the oldest one of the owner that was served longest ago.

So a key with a hundred jobs delays another key by at most one job. Turns are counted, not timed, so
that fairness does not depend on the time of day. They are stored apart from the videos, which
owners delete.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.jobs.model import QUEUED
from proxy.jobs.tables import turns, videos


async def next_in_turn(connection: AsyncConnection, models: Collection[str]) -> int | None:
    """Return the number of the next job for one of ``models`` and use up its owner's turn.

    Requires an exclusive transaction.
    """
    query = (
        select(videos.c.number, videos.c.owner)
        .outerjoin(turns, turns.c.owner == videos.c.owner)
        .where(videos.c.status == QUEUED, videos.c.model.in_(models))
        .order_by(func.coalesce(turns.c.turn, 0), videos.c.number)
        .limit(1)
        # PostgreSQL: skip a job that is being deleted or cancelled instead of waiting for it.
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
