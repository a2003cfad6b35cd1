"""The queue and the history in one table. Each change of a job is a guarded UPDATE: whoever loses a
race changes nothing and is told so.

A worker claims the oldest job of the owner that was served longest ago, under a lease: a token, and
a count that must go up. Results are written only by the holder of the token, so a worker that was
thought dead can do no harm when it comes back. Claims and creations come one at a time: each must
know all others, to give turns and to bound the queue.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from sqlalchemy import RowMapping, and_, false, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.errors import ApiError, DatabaseUnavailableError, FailureCode, invalid, storage_full
from proxy.jobs.database import Database
from proxy.jobs.leases import Heartbeat, Leases
from proxy.jobs.model import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    INTERRUPTED_MESSAGE,
    QUEUED,
    Job,
    JobClaim,
    NewJob,
)
from proxy.jobs.outbox import note
from proxy.jobs.tables import probe, videos
from proxy.jobs.turns import next_in_turn
from proxy.settings import WorkSettings

QUEUE_TIMEOUT_MESSAGE = "No server came to make this video in time."
NAMES_A_QUERY = 500  # databases bound the number of values in a statement
NO_LEASE: Mapping[str, Any] = {"lease_token": None}


class JobStore:
    """Jobs in ``database``. ``clock`` gives unix seconds; ``stopwatch`` is one that nobody sets."""

    def __init__(
        self,
        database: Database,
        settings: WorkSettings,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ):
        self._database = database
        self._settings = settings
        self._clock = clock
        self._leases = Leases(settings.lease_s, stopwatch)

    async def create(self, new: NewJob) -> Job:
        """Queue a job; for an idempotency key that was used before, the job it made then.

        Raises ``ApiError``: 429 when the queue is full, 409 when the key came with another body,
        507 when the disk is.
        """
        values = {
            "id": f"video_{secrets.token_urlsafe(24).replace('-', 'A').replace('_', 'B')}",
            "owner": new.owner,
            "idempotency_key": new.idempotency_key,
            "body_hash": new.body_hash,
            "model": new.model,
            "params": new.params.model_dump_json(),
            "remixed_from": new.remixed_from,
            "trace": new.trace,
            "image": new.image,
            "status": QUEUED,
            "progress": 0,
            "created_at": self._clock(),
            "attempts": 0,
        }
        async with self._database.exclusive() as connection:
            if earlier := await self._earlier(connection, new):
                return earlier
            if self.short_of_space:
                raise storage_full()
            waiting = select(func.count()).where(videos.c.status == QUEUED)
            if (await connection.execute(waiting)).scalar_one() >= self._settings.max_queued:
                raise _queue_full()
            row = (
                (await connection.execute(videos.insert().values(values).returning(videos)))
                .mappings()
                .one()
            )
        return Job.of(row)

    async def get(self, owner: str, video_id: str) -> Job | None:
        return await self._one(select(videos).where(_named(owner, video_id)))

    async def current(self, video_ids: Sequence[str]) -> list[Job]:
        """Those of the videos that there are, of whatever owner."""
        found: list[Job] = []
        async with self._database.begin() as connection:
            for names in _batches(video_ids):
                rows = await connection.execute(select(videos).where(videos.c.id.in_(names)))
                found.extend(map(Job.of, rows.mappings()))
        return found

    async def page(
        self, owner: str, limit: int, after: str | None, *, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Up to ``limit`` jobs in the order of arrival, and whether there are more. ``after`` is
        an id.
        """
        query = select(videos).where(videos.c.owner == owner)
        if after is not None:
            job = await self.get(owner, after)
            if job is None:
                raise invalid("after", f"No video with the id {after[:80]!r} was found.")
            query = query.where(
                videos.c.number < job.number if newest_first else videos.c.number > job.number
            )
        order = videos.c.number.desc() if newest_first else videos.c.number.asc()
        async with self._database.begin() as connection:
            rows = (
                (await connection.execute(query.order_by(order).limit(limit + 1))).mappings().all()
            )
        return [Job.of(row) for row in rows[:limit]], len(rows) > limit

    async def delete(self, owner: str, video_id: str) -> Job | None:
        """Remove the row; returns what it said. A worker that is at it loses its lease with it."""
        return await self._one(videos.delete().where(_named(owner, video_id)).returning(videos))

    async def cancel(self, owner: str, video_id: str) -> Job | None:
        """Fail a job that is not finished; ``None`` when there is none that could be."""
        unfinished = videos.c.status.in_((QUEUED, IN_PROGRESS))
        failed = self._failed("cancelled", "The video was cancelled.").where(
            _named(owner, video_id), unfinished
        )
        async with self._database.begin() as connection:
            rows = await self._end(connection, failed)
        return Job.of(rows[0]) if rows else None

    async def claim(self, models: Collection[str]) -> JobClaim | None:
        """Take the next job for one of ``models``: first one whose worker gave no sign of life for
        its lease's time.

        None is taken while the disk has no space for their videos: they wait.
        """
        if self.short_of_space:
            return None
        async with self._database.exclusive() as connection:
            return await self._take_over(connection, models) or await self._take_next(
                connection, models
            )

    async def renew(self, claim: JobClaim, progress: int) -> bool:
        """A sign of life. False when the job is no longer this worker's: deleted, cancelled or
        taken over.

        Looks for the signs of others too, so that a worker that is gone is noticed while all others
        are busy.
        """
        beat = {"progress": progress, "lease_beats": videos.c.lease_beats + 1}
        update = videos.update().where(_held_by(claim.job.number, claim.token)).values(beat)
        async with self._database.begin() as connection:
            held = (await connection.execute(update)).rowcount == 1
            await self._observe_leases(connection)
        return held

    async def complete(self, claim: JobClaim, file: str) -> bool:
        """False when the job is no longer this worker's. May be called again when the answer was
        lost.
        """
        completed = self._final({"status": COMPLETED, "progress": 100, "file": file})
        return await self._end_held(claim, completed) or not await self.unknown([file])

    async def fail(self, claim: JobClaim, code: FailureCode, message: str) -> bool:
        return await self._end_held(claim, self._failed(code, message))

    async def retry(self, claim: JobClaim) -> bool:
        """Back into the queue after an attempt that was nobody's fault. False when that was the
        last one.
        """
        if claim.attempt >= self._settings.max_attempts:
            return False
        return await self._held(claim, {"status": QUEUED, "progress": 0, **NO_LEASE})

    async def release(self, claim: JobClaim) -> bool:
        """Back into the queue, as if it had not been begun: for a worker that is told to stop."""
        return await self._held(
            claim, {"status": QUEUED, "progress": 0, "attempts": claim.attempt - 1, **NO_LEASE}
        )

    async def counts(self) -> dict[str, int]:
        """How many jobs are unfinished, by status."""
        query = select(videos.c.status, func.count()).where(
            videos.c.status.in_((QUEUED, IN_PROGRESS))
        )
        async with self._database.begin() as connection:
            rows = (await connection.execute(query.group_by(videos.c.status))).all()
        return {QUEUED: 0, IN_PROGRESS: 0} | {row[0]: row[1] for row in rows}

    async def sweep(self) -> list[Job]:
        """Fail what waited too long, and remove finished jobs whose time is over; returns those,
        for their files.
        """
        waited = and_(
            videos.c.status == QUEUED,
            videos.c.created_at <= self._clock() - self._settings.queue_timeout_s,
        )
        async with self._database.begin() as connection:
            await self._end(
                connection, self._failed("timeout", QUEUE_TIMEOUT_MESSAGE).where(waited)
            )
        over = videos.delete().where(videos.c.expires_at <= self._clock())
        async with self._database.begin() as connection:
            rows = (await connection.execute(over.returning(videos))).mappings().all()
        return [Job.of(row) for row in rows]

    async def unknown(self, files: Sequence[str]) -> list[str]:
        """Those of ``files`` that no job names."""
        found: set[str] = set()
        async with self._database.begin() as connection:
            for names in _batches(files):
                for column in (videos.c.file, videos.c.image):
                    rows = await connection.execute(select(column).where(column.in_(names)))
                    found.update(rows.scalars())
        return [file for file in files if file not in found]

    async def problem(self) -> str | None:
        """Why the database takes no write, found out by one; None: it does."""
        try:
            async with self._database.begin() as connection:
                await connection.execute(probe.update().values(writes=probe.c.writes + 1))
        except DatabaseUnavailableError:
            return self._database.problem
        return None

    @property
    def short_of_space(self) -> bool:
        """Whether the database's disk is almost full: then no video is accepted or begun."""
        return self._database.reserve is not None and self._database.reserve.short()

    async def _observe_leases(self, connection: AsyncConnection) -> None:
        sign = select(videos.c.number, videos.c.lease_token, videos.c.lease_beats)
        rows = await connection.execute(sign.where(videos.c.status == IN_PROGRESS))
        self._leases.observe([Heartbeat(*row) for row in rows], self._database.outages)

    async def _take_over(
        self, connection: AsyncConnection, models: Collection[str]
    ) -> JobClaim | None:
        await self._observe_leases(connection)
        for sign in self._leases.expired():
            # Nothing happens to a job whose worker gives a sign after all, between that look and
            # this statement.
            lost = and_(_held_by(sign.number, sign.token), videos.c.lease_beats == sign.beats)
            spent = videos.c.attempts >= self._settings.max_attempts
            await self._end(
                connection, self._failed("interrupted", INTERRUPTED_MESSAGE).where(lost, spent)
            )
            if claim := await self._take(connection, and_(lost, videos.c.model.in_(models))):
                return claim
        return None

    async def _take_next(
        self, connection: AsyncConnection, models: Collection[str]
    ) -> JobClaim | None:
        number = await next_in_turn(connection, models)
        return None if number is None else await self._take(connection, videos.c.number == number)

    async def _take(self, connection: AsyncConnection, where: Any) -> JobClaim | None:
        token = secrets.token_hex(16)
        lease = {"lease_token": token, "lease_beats": 0, "attempts": videos.c.attempts + 1}
        update = (
            videos.update()
            .where(where)
            .values(status=IN_PROGRESS, progress=0, started_at=self._clock(), **lease)
        )
        row = (await connection.execute(update.returning(videos))).mappings().first()
        return JobClaim(Job.of(row), token, row["attempts"]) if row else None

    def _failed(self, code: FailureCode, message: str) -> Any:
        return self._final({"status": FAILED, "error_code": code, "error_message": message})

    def _final(self, values: Mapping[str, Any]) -> Any:
        now = self._clock()
        last = {
            **values,
            **NO_LEASE,
            "completed_at": now,
            "expires_at": now + self._settings.keep_s,
        }
        return videos.update().values(last).returning(videos)

    async def _end(self, connection: AsyncConnection, update: Any) -> Sequence[RowMapping]:
        """The rows that the update made final, each with its event for the webhook."""
        rows = (await connection.execute(update)).mappings().all()
        if self._settings.webhook_url:
            await note(connection, rows, self._clock())
        return rows

    async def _end_held(self, claim: JobClaim, update: Any) -> bool:
        async with self._database.begin() as connection:
            return bool(
                await self._end(connection, update.where(_held_by(claim.job.number, claim.token)))
            )

    async def _held(self, claim: JobClaim, values: Mapping[str, Any]) -> bool:
        update = videos.update().where(_held_by(claim.job.number, claim.token)).values(**values)
        async with self._database.begin() as connection:
            return (await connection.execute(update)).rowcount == 1

    async def _earlier(self, connection: AsyncConnection, new: NewJob) -> Job | None:
        if new.idempotency_key is None:
            return None
        where = and_(videos.c.owner == new.owner, videos.c.idempotency_key == new.idempotency_key)
        row = (await connection.execute(select(videos).where(where))).mappings().first()
        if row and row["body_hash"] != new.body_hash:
            raise ApiError(
                HTTPStatus.CONFLICT,
                "This Idempotency-Key was used with another request body.",
                code="idempotency_conflict",
                headers={"x-should-retry": "false"},
            )
        return Job.of(row) if row else None

    async def _one(self, statement: Any) -> Job | None:
        async with self._database.begin() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return Job.of(row) if row else None


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_A_QUERY):
        yield names[start : start + NAMES_A_QUERY]


def _named(owner: str, video_id: str) -> Any:
    # PostgreSQL takes no text with a NUL in it, and no id has one.
    return false() if "\0" in video_id else and_(videos.c.owner == owner, videos.c.id == video_id)


def _held_by(number: int, token: str) -> Any:
    return and_(
        videos.c.number == number, videos.c.status == IN_PROGRESS, videos.c.lease_token == token
    )


def _queue_full() -> ApiError:
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "The queue is full; try again later.",
        code="queue_full",
        headers={"retry-after": "10"},
    )
