"""Workers: claim a job, make its video on a Triton, store the files, write the result.

Every step requires the lease of the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from obstore.exceptions import BaseError as StoreError

from pipeline.client import Video
from proxy.errors import DatabaseUnavailableError
from proxy.generation import Failure, ProgressTracker, StoredVideo, generate, store_video
from proxy.jobs.model import Job, JobClaim
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.previews import Previews
from proxy.settings import WorkSettings
from proxy.tritons import Triton, Tritons
from proxy.video_store import VideoStore
from proxy.waiting import wait_for_event

logger = logging.getLogger(__name__)

# Delay for jobs of other processes; a job of this process wakes the worker at once.
POLL_S = 1.0
HEARTBEAT_S = 0.5
RETRY_PAUSE_S = 2.0

Stream = asyncio.Task[Video | Failure]


class Worker:
    """Makes videos on all free slots of the Tritons until `stop`, which requeues running jobs.

    Only the stream from Triton is ever cancelled, never a database call: after that, SQLAlchemy's
    connection to SQLite may wait forever.
    """

    def __init__(
        self,
        jobs: JobStore,
        store: VideoStore,
        tritons: Tritons,
        metrics: Metrics,
        settings: WorkSettings,
        previews: Previews | None = None,
    ):
        """``previews`` gets those of the videos that are being made."""
        self._jobs = jobs
        self._store = store
        self._tritons = tritons
        self._metrics = metrics
        self._settings = settings
        self._previews = previews or Previews()
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._stopping = False
        self._streams: dict[int, Stream] = {}
        self._running: set[str] = set()  # lease tokens

    def wake(self) -> None:
        """Look for a job now: one was queued, or a slot became free."""
        self._changed.set()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever a job of this worker begins or ends."""
        self._listeners.append(listener)

    def stop_job(self, job: Job) -> None:
        """Stop a deleted or cancelled job now instead of at the next heartbeat."""
        if stream := self._streams.get(job.number):
            stream.cancel()

    def stop(self) -> None:
        """Let `run` return soon; running jobs go back into the queue."""
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
        """Claim a job for a Triton with a free slot."""
        # Claiming without a free slot would use up attempts, or keep the job from other workers.
        models = self._tritons.free()
        claim = await self._jobs.claim(models, self._running) if models else None
        if claim is None:
            return None
        triton = self._tritons.least_busy(claim.job.model)
        if triton is None:  # it went down meanwhile
            await self._jobs.release(claim)
            return None
        triton.own_jobs.add(claim.attempt_id)
        self._running.add(claim.token)
        return claim, triton

    async def _make(self, claim: JobClaim, triton: Triton) -> None:
        show = partial(self._previews.put, claim.job.id)
        tracker, done = ProgressTracker(show=show), asyncio.Event()
        timeout_s = self._settings.job_timeout_s
        stream = asyncio.create_task(generate(claim, self._store, triton, timeout_s, tracker))
        self._streams[claim.job.number] = stream
        self._notify()
        if self._stopping:
            stream.cancel()
        beat = asyncio.create_task(self._heartbeat(claim, tracker, stream, done))
        await asyncio.wait([stream])
        self._previews.drop(claim.job.id)
        del self._streams[claim.job.number]
        triton.own_jobs.discard(claim.attempt_id)
        self.wake()
        await self._settle(claim, triton, await self._outcome(claim, stream), tracker)
        self._running.discard(claim.token)
        self._notify()
        done.set()
        await beat

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    async def _outcome(self, claim: JobClaim, stream: Stream) -> StoredVideo | Failure | None:
        """Return the outcome of the job, or None if it was stopped."""
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
        """Write the outcome, after an outage of the database if there is one.

        During an outage no other worker takes the job.
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
        if await self._jobs.complete(claim, made.file, made.peak_memory_bytes):
            self._metrics.completed(claim.job, made.size, tracker.seconds)
            return
        # The job was deleted or taken over. If this fails, the sweeper finds the file.
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
                # No other worker takes the job meanwhile: see `proxy.jobs.leases`.
                continue
