"""Notifies event streams and sync requests of changed jobs, whichever process runs the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from proxy.errors import DatabaseUnavailableError
from proxy.jobs.model import FINISHED, Job
from proxy.jobs.store import JobStore
from proxy.waiting import wait_for_event

TICK_S = 0.5


class Updates:
    """Polls all followed jobs with one query per tick, however many followers there are.

    Followers wait for an event and never for the database, so they may be cancelled at any time.
    """

    def __init__(self, jobs: JobStore):
        self._jobs = jobs
        self._followers: set[_Follower] = set()
        self._closing = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        """Stop: `follow` ends, and `run` returns soon."""
        self._closing.set()
        self._news.set()
        for follower in self._followers:
            follower.see(None)

    def repeat(self, video_id: str) -> None:
        """Let those that follow this video with its previews see it now, changed or not."""
        for follower in self._followers:
            if follower.previews and follower.id == video_id:
                follower.changed.set()

    def wake(self) -> None:
        """Poll now instead of at the next tick."""
        self._news.set()

    async def run(self) -> None:
        while not self.closed:
            await wait_for_event(self._news, TICK_S)
            self._news.clear()
            try:
                await self._read()
            except DatabaseUnavailableError:
                continue  # followers get the change after the outage

    async def follow(
        self, job: Job, repeat_s: float | None = None, *, previews: bool = False
    ) -> AsyncGenerator[Job]:
        """Yield the job now, after each change, and again after ``repeat_s`` seconds without one;
        with ``previews`` also after each call of `repeat`.

        Ends when the job is finished or deleted, or the server stops.
        """
        follower = _Follower(job, previews=previews)
        self._followers.add(follower)
        try:
            yield job
            while not self.closed and job.status not in FINISHED:
                await wait_for_event(follower.changed, repeat_s)
                follower.changed.clear()
                if follower.job is None:
                    return
                job = follower.job
                yield job
        finally:
            self._followers.discard(follower)

    async def _read(self) -> None:
        followers = list(self._followers)
        if followers:
            ids = list({follower.id for follower in followers})
            jobs = {job.id: job for job in await self._jobs.current(ids)}
            for follower in followers:
                follower.see(jobs.get(follower.id))


class _Follower:
    """One follower: the last state of its job, or None when nothing more will come."""

    def __init__(self, job: Job, *, previews: bool):
        self.id = job.id
        self.previews = previews
        self.job: Job | None = job
        self.changed = asyncio.Event()

    def see(self, job: Job | None) -> None:
        if job != self.job:
            self.job = job
            self.changed.set()
