"""The queue and the history in one table. Each change of a job is one guarded UPDATE: whoever loses a race changes
nothing and is told so.

A worker claims the oldest job of the owner that was served longest ago, under a lease: a token and a time until which
it must be renewed. Results are written only by the holder of the token, so a worker that was thought dead can do no
harm when it comes back.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from sqlalchemy import and_, false, func, or_, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from proxy.errors import ApiError, FailureCode, invalid
from proxy.jobs.model import COMPLETED, FAILED, IN_PROGRESS, INTERRUPTED, QUEUED, Claim, Job, NewJob
from proxy.jobs.tables import videos
from proxy.settings import JobSettings

WAITED = "No server came to make this video in time."
NAMES_A_QUERY = 500  # databases bound the number of values in a statement
NO_LEASE: Mapping[str, Any] = {"lease_token": None, "lease_until": None}


class JobStore:
    """Jobs in the database ``engine``. ``clock`` gives unix seconds."""

    def __init__(self, engine: AsyncEngine, settings: JobSettings, clock: Callable[[], float] = time.time):
        self._engine = engine
        self._settings = settings
        self._clock = clock

    async def create(self, new: NewJob) -> Job:
        """Queue a job; for an idempotency key that was used before, the job it made then.

        Raises ``ApiError``: 429 when the queue is full, 409 when the key came with another body.
        """
        values = {
            "id": f"video_{secrets.token_urlsafe(24).replace('-', 'A').replace('_', 'B')}",
            "owner": new.owner,
            "idempotency_key": new.idempotency_key,
            "body_hash": new.body_hash,
            "model": new.model,
            "params": new.params.model_dump_json(),
            "remixed_from": new.remixed_from,
            "status": QUEUED,
            "progress": 0,
            "created_at": self._clock(),
            "attempts": 0,
        }
        try:
            async with self._engine.begin() as connection:
                # The insert comes first: it takes SQLite's write lock, and the count is then of all there are.
                row = (await connection.execute(videos.insert().values(values).returning(videos))).mappings().one()
                waiting = select(func.count()).where(videos.c.status == QUEUED)
                if (await connection.execute(waiting)).scalar_one() > self._settings.max_queued:
                    raise _queue_full()
                return Job.of(row)
        except IntegrityError:
            return await self._earlier(new)

    async def get(self, owner: str, video_id: str) -> Job | None:
        return await self._one(select(videos).where(videos.c.owner == owner, videos.c.id == video_id))

    async def current(self, video_ids: Sequence[str]) -> list[Job]:
        """Those of the videos that there are, of whatever owner."""
        found: list[Job] = []
        async with self._engine.connect() as connection:
            for start in range(0, len(video_ids), NAMES_A_QUERY):
                names = video_ids[start : start + NAMES_A_QUERY]
                rows = await connection.execute(select(videos).where(videos.c.id.in_(names)))
                found.extend(map(Job.of, rows.mappings()))
        return found

    async def page(self, owner: str, limit: int, after: str | None, *, newest_first: bool) -> tuple[list[Job], bool]:
        """Up to ``limit`` jobs in the order of arrival, and whether there are more. ``after`` is an id."""
        query = select(videos).where(videos.c.owner == owner)
        if after is not None:
            job = await self.get(owner, after)
            if job is None:
                raise invalid("after", f"No video with the id {after[:80]!r} was found.")
            query = query.where(videos.c.number < job.number if newest_first else videos.c.number > job.number)
        order = videos.c.number.desc() if newest_first else videos.c.number.asc()
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query.order_by(order).limit(limit + 1))).mappings().all()
        return [Job.of(row) for row in rows[:limit]], len(rows) > limit

    async def delete(self, owner: str, video_id: str) -> Job | None:
        """Remove the row; returns what it said. A worker that is at it loses its lease with it."""
        where = and_(videos.c.owner == owner, videos.c.id == video_id)
        return await self._returned(videos.delete().where(where).returning(videos))

    async def cancel(self, owner: str, video_id: str) -> Job | None:
        """Fail a job that is not finished; ``None`` when there is none that could be."""
        unfinished = videos.c.status.in_((QUEUED, IN_PROGRESS))
        where = and_(videos.c.owner == owner, videos.c.id == video_id, unfinished)
        return await self._returned(self._failed("cancelled", "The video was cancelled.").where(where))

    async def claim(self, models: Collection[str]) -> Claim | None:
        """Take the next job for one of ``models``, also one whose worker gave no sign of life for its lease's time."""
        now = self._clock()
        lost = and_(videos.c.status == IN_PROGRESS, videos.c.lease_until < now)
        spent = videos.c.attempts >= self._settings.max_attempts
        async with self._engine.begin() as connection:
            await connection.execute(self._failed("interrupted", INTERRUPTED).where(lost, spent))
        served = videos.alias()
        last_served = (
            select(func.coalesce(func.max(served.c.started_at), 0.0))
            .where(served.c.owner == videos.c.owner)
            .scalar_subquery()
        )
        chosen = (
            select(videos.c.number)
            .where(or_(videos.c.status == QUEUED, lost), videos.c.model.in_(models))
            .order_by((videos.c.status == QUEUED).asc(), last_served, videos.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        token = secrets.token_hex(16)
        update = (
            videos.update()
            .where(videos.c.number == chosen.scalar_subquery())
            .values(
                status=IN_PROGRESS,
                progress=0,
                started_at=now,
                attempts=videos.c.attempts + 1,
                lease_token=token,
                lease_until=now + self._settings.lease_s,
            )
            .returning(videos)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(update)).mappings().first()
        return Claim(Job.of(row), token, row["attempts"]) if row else None

    async def renew(self, claim: Claim, progress: int) -> bool:
        """A sign of life. False when the job is no longer this worker's: deleted, cancelled or taken over."""
        values = {"progress": progress, "lease_until": self._clock() + self._settings.lease_s}
        return await self._held(claim, values)

    async def complete(self, claim: Claim, file: str) -> bool:
        now = self._clock()
        values = {"status": COMPLETED, "progress": 100, "completed_at": now, "file": file}
        return await self._held(claim, {**values, **NO_LEASE, "expires_at": now + self._settings.keep_s})

    async def fail(self, claim: Claim, code: FailureCode, message: str) -> bool:
        values = {"status": FAILED, "error_code": code, "error_message": message, "completed_at": self._clock()}
        return await self._held(claim, {**values, **NO_LEASE, "expires_at": self._clock() + self._settings.keep_s})

    async def retry(self, claim: Claim) -> bool:
        """Back into the queue after an attempt that was nobody's fault. False when that was the last one."""
        if claim.attempt >= self._settings.max_attempts:
            return False
        return await self._held(claim, {"status": QUEUED, "progress": 0, **NO_LEASE})

    async def release(self, claim: Claim) -> bool:
        """Back into the queue, as if it had not been begun: for a worker that is told to stop."""
        return await self._held(claim, {"status": QUEUED, "progress": 0, "attempts": claim.attempt - 1, **NO_LEASE})

    async def counts(self) -> dict[str, int]:
        """How many jobs are unfinished, by status."""
        query = select(videos.c.status, func.count()).where(videos.c.status.in_((QUEUED, IN_PROGRESS)))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query.group_by(videos.c.status))).all()
        return {QUEUED: 0, IN_PROGRESS: 0} | {row[0]: row[1] for row in rows}

    async def sweep(self) -> list[Job]:
        """Fail what waited too long, and remove finished jobs whose time is over; returns those, for their files."""
        waited = and_(videos.c.status == QUEUED, videos.c.created_at <= self._clock() - self._settings.queue_timeout_s)
        async with self._engine.begin() as connection:
            await connection.execute(self._failed("timeout", WAITED).where(waited))
        where = and_(videos.c.status.in_((COMPLETED, FAILED)), videos.c.expires_at <= self._clock())
        async with self._engine.begin() as connection:
            rows = (await connection.execute(videos.delete().where(where).returning(videos))).mappings().all()
        return [Job.of(row) for row in rows]

    async def unknown(self, files: Sequence[str]) -> list[str]:
        """Those of ``files`` that no job names."""
        found: set[str] = set()
        async with self._engine.connect() as connection:
            for start in range(0, len(files), NAMES_A_QUERY):
                names = files[start : start + NAMES_A_QUERY]
                rows = await connection.execute(select(videos.c.file).where(videos.c.file.in_(names)))
                found.update(rows.scalars())
        return [file for file in files if file not in found]

    async def writable(self) -> bool:
        """Whether the database takes a write."""
        try:
            async with self._engine.begin() as connection:
                await connection.execute(videos.update().where(false()).values(progress=0))
        except SQLAlchemyError:
            return False
        return True

    def _failed(self, code: FailureCode, message: str) -> Any:
        now = self._clock()
        values = {"status": FAILED, "error_code": code, "error_message": message, "completed_at": now}
        return videos.update().values(**values, **NO_LEASE, expires_at=now + self._settings.keep_s).returning(videos)

    async def _held(self, claim: Claim, values: Mapping[str, Any]) -> bool:
        where = and_(
            videos.c.number == claim.job.number, videos.c.status == IN_PROGRESS, videos.c.lease_token == claim.token
        )
        async with self._engine.begin() as connection:
            return (await connection.execute(videos.update().where(where).values(**values))).rowcount == 1

    async def _earlier(self, new: NewJob) -> Job:
        where = and_(videos.c.owner == new.owner, videos.c.idempotency_key == new.idempotency_key)
        job = await self._one(select(videos).where(where))
        if job is None or job.body_hash != new.body_hash:
            raise ApiError(
                HTTPStatus.CONFLICT,
                "This Idempotency-Key was used with another request body.",
                code="idempotency_conflict",
                headers={"x-should-retry": "false"},
            )
        return job

    async def _one(self, query: Any) -> Job | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().first()
        return Job.of(row) if row else None

    async def _returned(self, statement: Any) -> Job | None:
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return Job.of(row) if row else None


def _queue_full() -> ApiError:
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "The queue is full; try again later.",
        code="queue_full",
        headers={"retry-after": "10"},
    )
