"""Workers: claim jobs, have a Triton make each, keep the file, write the result. Each step under the job's lease."""

from __future__ import annotations

import asyncio
import logging
import time

from obstore.exceptions import BaseError as StoreError
from sqlalchemy.exc import SQLAlchemyError

from proxy.files import VideoFiles
from proxy.generation import Failure, Made, Progression, generate
from proxy.jobs.model import Claim, Job
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.settings import JobSettings
from proxy.tritons import Triton, Tritons
from proxy.waiting import happens

logger = logging.getLogger(__name__)

POLL_S = 1.0  # how soon a job of another process is seen; one of this process wakes the worker at once
HEARTBEAT_S = 0.5
AFTER_TROUBLE_S = 2.0

Stream = asyncio.Task[Made | Failure]


class Worker:
    """Makes videos, as many at a time as the Tritons have room for, until it is told to stop; jobs in hand go back
    into the queue then.

    Only the stream from Triton is ever cancelled, never a call of the database: SQLAlchemy's connection to SQLite may
    wait for ever after that.
    """

    def __init__(self, jobs: JobStore, files: VideoFiles, tritons: Tritons, metrics: Metrics, settings: JobSettings):
        self._jobs = jobs
        self._files = files
        self._tritons = tritons
        self._metrics = metrics
        self._settings = settings
        self._news = asyncio.Event()
        self._stopping = False
        self._streams: dict[int, Stream] = {}

    def wake(self) -> None:
        """There is a new job, or room for one."""
        self._news.set()

    def stop_job(self, job: Job) -> None:
        """The job was deleted or cancelled: stop now, not at the next heartbeat."""
        if stream := self._streams.get(job.number):
            stream.cancel()

    def stop(self) -> None:
        """`run` returns soon."""
        self._stopping = True
        self._news.set()
        for stream in self._streams.values():
            stream.cancel()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                try:
                    taken = await self._take()
                except SQLAlchemyError:
                    logger.exception("the job database does not answer")
                    await asyncio.sleep(AFTER_TROUBLE_S)
                    continue
                if taken:
                    group.create_task(self._make(*taken))
                else:
                    await happens(self._news, POLL_S)
                    self._news.clear()

    async def _take(self) -> tuple[Claim, Triton] | None:
        """A job, and a Triton with room for it."""
        # Claiming while none is free would use attempts up, or hold back what another worker could do.
        models = self._tritons.free()
        claim = await self._jobs.claim(models) if models else None
        if claim is None:
            return None
        triton = self._tritons.least_busy(claim.job.model)
        if triton is None:  # it went down in the meantime
            await self._jobs.release(claim)
            return None
        triton.mine.add(claim.attempt_id)
        return claim, triton

    async def _make(self, claim: Claim, triton: Triton) -> None:
        progression, done = Progression(), asyncio.Event()
        timeout_s = self._settings.job_timeout_s
        stream = asyncio.create_task(generate(claim, triton.client, self._files, timeout_s, progression))
        self._streams[claim.job.number] = stream
        if self._stopping:
            stream.cancel()
        beat = asyncio.create_task(self._heartbeat(claim, progression, stream, done))
        await asyncio.wait([stream])
        done.set()
        await beat
        del self._streams[claim.job.number]
        triton.mine.discard(claim.attempt_id)
        self.wake()
        await self._settle(claim, triton, stream, progression)

    async def _settle(self, claim: Claim, triton: Triton, stream: Stream, progression: Progression) -> None:
        """Write the outcome, again and again for as long as the lease lasts: the work is not thrown away lightly."""
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                if stream.cancelled():
                    await self._stopped(claim)
                elif error := stream.exception():
                    logger.error("a job met a fault of this server", exc_info=error)
                    await self._failed(claim, Failure("backend_error", "The server had an error."))
                elif isinstance(outcome := stream.result(), Made):
                    await self._completed(claim, outcome, progression)
                else:
                    if outcome.lost:
                        triton.suspect(outcome.lost)
                    await self._failed(claim, outcome)
                return
            except SQLAlchemyError:
                logger.exception("a job's outcome could not be written")
                if self._stopping or time.monotonic() > deadline:
                    return
            await asyncio.sleep(AFTER_TROUBLE_S)

    async def _stopped(self, claim: Claim) -> None:
        if self._stopping:
            await self._jobs.release(claim)
        logger.info("a job was stopped")

    async def _completed(self, claim: Claim, made: Made, progression: Progression) -> None:
        if await self._jobs.complete(claim, made.file):
            self._metrics.completed(claim.job, made.size, progression.seconds)
            return
        # Deleted or taken over. Should this fail, the sweeper finds the file.
        try:
            await self._files.delete(made.file)
        except (StoreError, OSError):
            logger.exception("the file of a deleted video could not be removed")

    async def _failed(self, claim: Claim, failure: Failure) -> None:
        if failure.lost and await self._jobs.retry(claim):
            return
        if await self._jobs.fail(claim, failure.code, failure.message):
            self._metrics.failed(claim.job, failure.code)

    async def _heartbeat(self, claim: Claim, progression: Progression, stream: Stream, done: asyncio.Event) -> None:
        while not await happens(done, HEARTBEAT_S):
            try:
                if not await self._jobs.renew(claim, progression.percent):
                    stream.cancel()
                    return
            except SQLAlchemyError:
                # The lease outlives a short outage of the database; a long one ends it.
                logger.exception("a job's lease could not be renewed")
