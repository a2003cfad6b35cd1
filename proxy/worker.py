"""Workers: claim jobs, have a Triton make each, keep the file, write the result. Each step under
the job's lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from obstore.exceptions import BaseError as StoreError

from pipeline.client import Video
from proxy.errors import DatabaseUnavailableError
from proxy.generation import Failure, ProgressTracker, StoredVideo, generate, store_video
from proxy.jobs.model import Job, JobClaim
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.settings import WorkSettings
from proxy.tritons import Triton, Tritons
from proxy.video_store import VideoStore
from proxy.waiting import wait_for_event

logger = logging.getLogger(__name__)

# how soon a job of another process is seen; one of this process wakes the worker at once
POLL_S = 1.0
HEARTBEAT_S = 0.5
RETRY_PAUSE_S = 2.0

Stream = asyncio.Task[Video | Failure]


class Worker:
    """Makes videos, as many at a time as the Tritons have room for, until it is told to stop; jobs
    in hand go back into the queue then.

    Only the stream from Triton is ever cancelled, never a call of the database: SQLAlchemy's
    connection to SQLite may wait for ever after that.
    """

    def __init__(
        self,
        jobs: JobStore,
        store: VideoStore,
        tritons: Tritons,
        metrics: Metrics,
        settings: WorkSettings,
    ):
        self._jobs = jobs
        self._store = store
        self._tritons = tritons
        self._metrics = metrics
        self._settings = settings
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._stopping = False
        self._streams: dict[int, Stream] = {}

    def wake(self) -> None:
        """There is a new job, or room for one."""
        self._changed.set()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever a job of this worker begins or ends."""
        self._listeners.append(listener)

    def stop_job(self, job: Job) -> None:
        """The job was deleted or cancelled: stop now, not at the next heartbeat."""
        if stream := self._streams.get(job.number):
            stream.cancel()

    def stop(self) -> None:
        """`run` returns soon."""
        self._stopping = True
        self._changed.set()
        for stream in self._streams.values():
            stream.cancel()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                try:
                    taken = await self._take()
                except DatabaseUnavailableError:
                    await asyncio.sleep(RETRY_PAUSE_S)
                    continue
                if taken:
                    group.create_task(self._make(*taken))
                else:
                    await wait_for_event(self._changed, POLL_S)
                    self._changed.clear()

    async def _take(self) -> tuple[JobClaim, Triton] | None:
        """A job, and a Triton with room for it."""
        # Claiming while none is free would use attempts up, or hold back what another worker could
        # do.
        models = self._tritons.free()
        claim = await self._jobs.claim(models) if models else None
        if claim is None:
            return None
        triton = self._tritons.least_busy(claim.job.model)
        if triton is None:  # it went down in the meantime
            await self._jobs.release(claim)
            return None
        triton.own_jobs.add(claim.attempt_id)
        return claim, triton

    async def _make(self, claim: JobClaim, triton: Triton) -> None:
        tracker, done = ProgressTracker(), asyncio.Event()
        timeout_s = self._settings.job_timeout_s
        stream = asyncio.create_task(generate(claim, self._store, triton, timeout_s, tracker))
        self._streams[claim.job.number] = stream
        self._notify()
        if self._stopping:
            stream.cancel()
        beat = asyncio.create_task(self._heartbeat(claim, tracker, stream, done))
        await asyncio.wait([stream])
        del self._streams[claim.job.number]
        triton.own_jobs.discard(claim.attempt_id)
        self.wake()
        await self._settle(claim, triton, await self._outcome(claim, stream), tracker)
        self._notify()
        done.set()
        await beat

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    async def _outcome(self, claim: JobClaim, stream: Stream) -> StoredVideo | Failure | None:
        """What became of the job; ``None`` when it was stopped."""
        if stream.cancelled():
            return None
        if error := stream.exception():
            logger.error("a job met a fault of this server", exc_info=error)
            return Failure("backend_error", "The server had an error.")
        made = stream.result()
        return made if isinstance(made, Failure) else await store_video(claim, self._store, made)

    async def _settle(
        self,
        claim: JobClaim,
        triton: Triton,
        outcome: StoredVideo | Failure | None,
        tracker: ProgressTracker,
    ) -> None:
        """Write the outcome; after an outage of the database, in which nobody else takes the
        job.
        """
        if isinstance(outcome, Failure) and outcome.lost:
            triton.suspect(outcome.lost)
        while True:
            try:
                if outcome is None:
                    await self._stopped(claim)
                elif isinstance(outcome, StoredVideo):
                    await self._completed(claim, outcome, tracker)
                else:
                    await self._failed(claim, outcome)
                return
            except DatabaseUnavailableError:
                if self._stopping:
                    return
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _stopped(self, claim: JobClaim) -> None:
        if self._stopping:
            await self._jobs.release(claim)
        logger.info("a job was stopped")

    async def _completed(
        self, claim: JobClaim, made: StoredVideo, tracker: ProgressTracker
    ) -> None:
        if await self._jobs.complete(claim, made.file):
            self._metrics.completed(claim.job, made.size, tracker.seconds)
            return
        # Deleted or taken over. Should this fail, the sweeper finds the file.
        try:
            await self._store.delete(made.file)
        except (StoreError, OSError):
            logger.exception("the file of a deleted video could not be removed")

    async def _failed(self, claim: JobClaim, failure: Failure) -> None:
        if failure.lost and await self._jobs.retry(claim):
            return
        if await self._jobs.fail(claim, failure.code, failure.message):
            self._metrics.failed(claim.job, failure.code)

    async def _heartbeat(
        self, claim: JobClaim, tracker: ProgressTracker, stream: Stream, done: asyncio.Event
    ) -> None:
        while not await wait_for_event(done, HEARTBEAT_S):
            try:
                if not await self._jobs.renew(claim, tracker.percent):
                    stream.cancel()
                    return
            except DatabaseUnavailableError:
                # Nobody takes the job meanwhile: see `proxy.jobs.leases`.
                continue
