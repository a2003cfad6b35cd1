"""Which requests run together: those of one kind that wait at the same time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from pipeline.families import VideoRequest

logger = logging.getLogger(__name__)


def kind_of(request: VideoRequest) -> Hashable:
    """Requests of one kind make steps of one size and number. What else they ask for may differ."""
    guided = request.guidance_scale > 1
    return request.width, request.height, request.num_frames, request.num_inference_steps, guided


class Job(Protocol):
    """A request that waits for its batch."""

    @property
    def kind(self) -> Hashable: ...


J = TypeVar("J", bound=Job)


class Batches(Generic[J]):
    """Runs jobs in the order they come, one batch at a time; those of the first one's kind that
    wait join it.
    """

    def __init__(self, run: Callable[[Sequence[J]], None], largest: int) -> None:
        """``run`` takes at most ``largest`` jobs and tells them their results itself."""
        self._run, self._largest = run, largest
        self._waiting: list[J] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        if largest > 1:
            self._thread.start()

    def submit(self, job: J) -> None:
        """Returns when there is room for one more: queues, with their limits, are the caller's.

        Where batches are of one that is when the job is done: the caller's clock then measures all
        of it.
        """
        if self._largest == 1:
            self._run([job])
            return
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < self._largest or self._closed)

    def close(self) -> list[J]:
        """Returns when the batch in hand has ended, with the jobs that are left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        return self._waiting

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._run(batch)
            except Exception:  # a fault of ours: what waits is served all the same
                logger.exception("a batch of %d failed", len(batch))

    def _next(self) -> list[J]:
        """None when closed."""
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
