"""The queue and the history of jobs in one table.

Each change of a job is a guarded UPDATE: the loser of a race changes nothing and gets False or
None. A worker claims the oldest job of the owner that was served longest ago, under a lease: a
token, and a count that must increase. Only the holder of the token writes results, so a worker that
was considered lost does no harm when it comes back. Claims and creations run one at a time: each
must see all others, to keep turns and to bound the queue.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from sqlalchemy import RowMapping, and_, bindparam, false, func, select
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
NAMES_A_QUERY = 500  # databases limit the values in a statement
# Built once: building and hashing a statement takes longer than running it.
BY_ID = select(videos).where(
    videos.c.owner == bindparam("owner"), videos.c.id == bindparam("video_id")
)
FILE_COLUMNS = (videos.c.file, videos.c.image, videos.c.last_frame, videos.c.input_video)
NO_LEASE: Mapping[str, Any] = {"lease_token": None}


class JobStore:
    """Jobs in ``database``. ``clock`` returns unix seconds; ``stopwatch`` is monotonic."""

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
        """Queue a job, or return the earlier job of the same idempotency key.

        Raises ``ApiError``: 429 if the queue is full, 409 if the key was used with another body,
        507 if the disk is full.
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
            "last_frame": new.last_frame,
            "input_video": new.input_video,
            "source_frames": new.source_frames,
            "source_video": new.source_video,
            "model_alias": new.model_alias,
            "image_format": new.image_format,
            "metadata": None if new.metadata is None else json.dumps(new.metadata),
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
        if "\0" in video_id:  # PostgreSQL refuses such text
            return None
        row = await self._database.first(BY_ID, {"owner": owner, "video_id": video_id})
        return Job.of(row) if row else None

    async def current(self, video_ids: Sequence[str]) -> list[Job]:
        """Return the jobs of these ids that exist, of any owner."""
        found: list[Job] = []
        async with self._database.begin() as connection:
            for names in _batches(video_ids):
                rows = await connection.execute(select(videos).where(videos.c.id.in_(names)))
                found.extend(map(Job.of, rows.mappings()))
        return found

    async def page(
        self, owner: str, limit: int, after: str | None, *, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Return up to ``limit`` jobs after the id ``after``, and whether there are more."""
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
        """Fail an unfinished job as cancelled; return None if there is no such job."""
        unfinished = videos.c.status.in_((QUEUED, IN_PROGRESS))
        failed = self._failed("cancelled", "The video was cancelled.").where(
            _named(owner, video_id), unfinished
        )
        async with self._database.begin() as connection:
            rows = await self._end(connection, failed)
        return Job.of(rows[0]) if rows else None

    async def claim(
        self, models: Collection[str], running: Collection[str] = ()
    ) -> JobClaim | None:
        """Take the next job for one of ``models``, first one whose lease has expired.

        ``running`` are the tokens of the jobs that this process is at. A slow disk may delay their
        heartbeats, and they are not lost. Jobs wait while the disk has no space for their videos.
        """
        if self.short_of_space:
            return None
        async with self._database.exclusive() as connection:
            return await self._take_over(connection, models, running) or await self._take_next(
                connection, models
            )

    async def renew(self, claim: JobClaim, progress: int) -> bool:
        """Send a heartbeat. Return False if the job was deleted, cancelled or taken over.

        Also observes the heartbeats of other workers, so that a lost worker is noticed while all
        others are busy.
        """
        beat = {"progress": progress, "lease_beats": videos.c.lease_beats + 1}
        update = videos.update().where(_held_by(claim.job.number, claim.token)).values(beat)
        async with self._database.begin() as connection:
            held = (await connection.execute(update)).rowcount == 1
            await self._observe_leases(connection)
        return held

    async def complete(
        self, claim: JobClaim, file: str, peak_memory_bytes: int | None = None
    ) -> bool:
        """Complete a job. Return False if the worker no longer holds it.

        May be called again when the response of the database was lost.
        """
        values = {"status": COMPLETED, "progress": 100, "file": file}
        completed = self._final({**values, "peak_memory_bytes": peak_memory_bytes})
        return await self._end_held(claim, completed) or not await self.unknown([file])

    async def fail(self, claim: JobClaim, code: FailureCode, message: str) -> bool:
        return await self._end_held(claim, self._failed(code, message))

    async def retry(self, claim: JobClaim) -> bool:
        """Requeue a job after a lost Triton. Return False after the last attempt."""
        if claim.attempt >= self._settings.max_attempts:
            return False
        return await self._held(claim, {"status": QUEUED, "progress": 0, **NO_LEASE})

    async def release(self, claim: JobClaim) -> bool:
        """Requeue a job of a worker that stops, without counting the attempt."""
        return await self._held(
            claim, {"status": QUEUED, "progress": 0, "attempts": claim.attempt - 1, **NO_LEASE}
        )

    async def counts(self) -> dict[str, int]:
        """Return the number of unfinished jobs by status."""
        query = select(videos.c.status, func.count()).where(
            videos.c.status.in_((QUEUED, IN_PROGRESS))
        )
        async with self._database.begin() as connection:
            rows = (await connection.execute(query.group_by(videos.c.status))).all()
        return {QUEUED: 0, IN_PROGRESS: 0} | {row[0]: row[1] for row in rows}

    async def sweep(self) -> list[Job]:
        """Fail jobs that waited too long, and remove and return expired jobs."""
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
        """Return those of ``files`` that no job names."""
        found: set[str] = set()
        async with self._database.begin() as connection:
            for names in _batches(files):
                for column in FILE_COLUMNS:
                    rows = await connection.execute(select(column).where(column.in_(names)))
                    found.update(rows.scalars())
        return [file for file in files if file not in found]

    async def problem(self) -> str | None:
        """Write a probe; return why that fails, or None."""
        try:
            async with self._database.begin() as connection:
                await connection.execute(probe.update().values(writes=probe.c.writes + 1))
        except DatabaseUnavailableError:
            return self._database.problem
        return None

    @property
    def short_of_space(self) -> bool:
        """Whether the disk of the database is almost full; then no video is accepted or started."""
        return self._database.reserve is not None and self._database.reserve.short()

    async def _observe_leases(self, connection: AsyncConnection) -> None:
        sign = select(videos.c.number, videos.c.lease_token, videos.c.lease_beats)
        rows = await connection.execute(sign.where(videos.c.status == IN_PROGRESS))
        self._leases.observe([Heartbeat(*row) for row in rows], self._database.outages)

    async def _take_over(
        self, connection: AsyncConnection, models: Collection[str], running: Collection[str]
    ) -> JobClaim | None:
        await self._observe_leases(connection)
        for sign in self._leases.expired():
            if sign.token in running:
                continue
            # The guard spares a job whose worker sends a heartbeat between the two statements.
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
        """Run an update that makes rows final, write their webhook events, and return them."""
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
    # PostgreSQL refuses text with a NUL, and no id has one.
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
