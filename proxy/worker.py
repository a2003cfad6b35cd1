"""Workers: claim a job, have Triton make it, keep the file, write the result. Each step under the job's lease."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass

from obstore.exceptions import BaseError as StoreError
from sqlalchemy.exc import SQLAlchemyError

from pipeline.client import Progress, Video
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import CancelledError, GenerationError, InputError, ServerError
from proxy.errors import FailureCode
from proxy.files import VideoFiles
from proxy.jobs.model import Claim, Job
from proxy.jobs.store import JobStore
from proxy.settings import ProxySettings

logger = logging.getLogger(__name__)

POLL_S = 1.0  # how soon a job of another process is seen; one of this process wakes the worker at once
HEARTBEAT_S = 0.5
AFTER_TROUBLE_S = 2.0
DENOISE_SHARE, LAST_BEFORE_DONE = 90, 99


@dataclass(frozen=True)
class Failure:
    """Why there is no file; ``lost`` when it was nobody's fault and another attempt may do."""

    code: FailureCode = "interrupted"
    message: str = ""
    lost: bool = False


class Worker:
    """Makes one video at a time until it is told to stop; a job in hand goes back into the queue then.

    Only the stream from Triton is ever cancelled, never a call of the database: SQLAlchemy's connection to SQLite may
    wait for ever after that.
    """

    def __init__(self, jobs: JobStore, files: VideoFiles, triton: AsyncVideoClient, settings: ProxySettings):
        self._jobs = jobs
        self._files = files
        self._triton = triton
        self._settings = settings
        self._news = asyncio.Event()
        self._stopping = False
        self._work: asyncio.Task[str | Failure] | None = None
        self._claim: Claim | None = None

    def wake(self) -> None:
        """There is a new job."""
        self._news.set()

    def stop_job(self, job: Job) -> None:
        """The job was deleted or cancelled: stop now, not at the next heartbeat."""
        if self._work and self._claim and self._claim.job.number == job.number:
            self._work.cancel()

    def stop(self) -> None:
        """`run` returns soon."""
        self._stopping = True
        self._news.set()
        if self._work:
            self._work.cancel()

    async def run(self) -> None:
        while not self._stopping:
            try:
                # Claiming while no Triton answers would only use attempts up.
                claim = await self._jobs.claim() if await self._triton.ready() else None
                if claim:
                    await self._make(claim)
                else:
                    await happens(self._news, POLL_S)
                    self._news.clear()
            except SQLAlchemyError:
                logger.exception("the job database does not answer")
                await asyncio.sleep(AFTER_TROUBLE_S)

    async def _make(self, claim: Claim) -> None:
        progress, done = _Percent(), asyncio.Event()
        self._claim, self._work = claim, asyncio.create_task(self._generate(claim, progress))
        if self._stopping:
            self._work.cancel()
        beat = asyncio.create_task(self._heartbeat(claim, progress, self._work, done))
        await asyncio.wait([self._work])
        done.set()
        await beat
        self._claim = None
        await self._write(claim, self._work)

    async def _write(self, claim: Claim, work: asyncio.Task[str | Failure]) -> None:
        if work.cancelled():
            if self._stopping:
                await self._jobs.release(claim)
            logger.info("a job was stopped")
            return
        outcome = work.result()
        if isinstance(outcome, str):
            if not await self._jobs.complete(claim, outcome):
                await self._files.delete(outcome)
        elif outcome.lost:
            await self._jobs.retry(claim)
        else:
            await self._jobs.fail(claim, outcome.code, outcome.message)

    async def _generate(self, claim: Claim, progress: _Percent) -> str | Failure:
        """The key of the finished file, or why there is none."""
        params, job_id = claim.job.params, f"{claim.job.id}-{claim.attempt}"
        try:
            async with asyncio.timeout(self._settings.job_timeout_s):
                async with aclosing(self._triton.generate(params, job_id=job_id)) as events:
                    async for event in events:
                        if isinstance(event, Video):
                            return await self._files.put(claim.job.id, event.mp4)
                        progress.see(event)
        except TimeoutError:
            return Failure("timeout", f"The video was not done within {self._settings.job_timeout_s:g} seconds.")
        except (CancelledError, GenerationError, InputError) as error:
            return Failure("backend_error", str(error))
        except ServerError as error:
            logger.warning("%s", error)
        except (StoreError, OSError) as error:
            logger.exception("a video cannot be stored")
            return Failure("storage_error", f"The video could not be stored: {type(error).__name__}.")
        return Failure(lost=True)

    async def _heartbeat(
        self, claim: Claim, progress: _Percent, work: asyncio.Task[str | Failure], done: asyncio.Event
    ) -> None:
        while not await happens(done, HEARTBEAT_S):
            try:
                if not await self._jobs.renew(claim, progress.value):
                    work.cancel()
                    return
            except SQLAlchemyError:
                # The lease outlives a short outage of the database; a long one ends it.
                logger.exception("a job's lease could not be renewed")


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Whether the event comes in time. Not wait_for: before Python 3.12 that may lose a cancellation."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()


class _Percent:
    """Progress in percent: never falls, and 100 is only for what is done."""

    def __init__(self) -> None:
        self.value = 0

    def see(self, event: Progress) -> None:
        done = event.step / max(1, event.total)
        percent = DENOISE_SHARE * done if event.stage == "denoise" else DENOISE_SHARE + (100 - DENOISE_SHARE) * done
        self.value = max(self.value, min(LAST_BEFORE_DONE, int(percent)))
