"""Batching: requests of one kind run together, and may join a batch that runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from pipeline.families import VideoRequest

logger = logging.getLogger(__name__)


def kind_of(request: VideoRequest) -> Hashable:
    """Return a key that is equal for requests that can share a batch.

    Such requests have the same size, number of frames, use of guidance and LoRAs. All other
    parameters may differ.
    """
    guided, size = request.guidance_scale > 1, (request.width, request.height)
    return *size, request.num_frames, guided, request.lora


class Job(Protocol):
    """A request that waits for its batch."""

    @property
    def kind(self) -> Hashable: ...


J = TypeVar("J", bound=Job)


Take = Callable[[int], list[J]]
"""Returns jobs that join a batch, given the number of jobs that run in it."""


class OpenBatches(Generic[J]):
    """Runs jobs in order of arrival, one batch at a time. Waiting jobs of the first job's kind run
    in its batch, and others of this kind may join it, until a job of another kind is the next one.
    """

    def __init__(self, run: Callable[[Sequence[J], Take[J]], None], largest: int) -> None:
        """``run`` takes at most ``largest`` jobs and delivers their results itself. It may take
        further jobs while it runs.
        """
        self._run, self._largest = run, largest
        self._waiting: list[J] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        if largest > 1:
            self._thread.start()

    def submit(self, job: J) -> None:
        """Queue ``job`` and return when there is space for another one; the caller limits its own
        queue.

        With ``largest`` 1, run the job and return when it is done, so that the caller measures the
        whole duration.
        """
        if self._largest == 1:
            self._run([job], lambda _running: [])
            return
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < self._largest or self._closed)

    def close(self) -> list[J]:
        """Wait for the running batch to end, and return the jobs that have not run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        return self._waiting

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._run(batch, partial(self._take, batch[0].kind))
            except Exception:  # a bug; waiting jobs still run
                logger.exception("a batch of %d failed", len(batch))

    def _take(self, kind: Hashable, running: int) -> list[J]:
        """Return the next jobs if they are of ``kind``, at most as many as seats are free."""
        with self._changed:
            free = 0 if self._closed else self._largest - running
            alike = list(takewhile(lambda job: job.kind == kind, self._waiting[: max(0, free)]))
            del self._waiting[: len(alike)]
            self._changed.notify_all()
            return alike

    def _next(self) -> list[J]:
        """Return the next batch, or an empty list when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            alike = [job for job in self._waiting if job.kind == self._waiting[0].kind][
                : self._largest
            ]
            self._waiting = [job for job in self._waiting if job not in alike]
            self._changed.notify_all()
            return alike


class Batches(OpenBatches[J]):
    """The batches of repositories that were rendered before requests could join one: the adapter
    is a copy in the repository, and its ``run`` takes jobs only.
    """

    def __init__(self, run: Callable[[Sequence[J]], None], largest: int) -> None:
        super().__init__(lambda jobs, _take: run(jobs), largest)
