"""The requests of a batch from the leader's point of view: their callbacks and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.tensors import ESTIMATE
from pipeline.errors import GenerationError
from pipeline.families import VideoRequest
from pipeline.ranks.messages import Done, Step, Verdict
from pipeline.ranks.wire import Arrays, join

Outcome = np.ndarray | BaseException


@dataclass(frozen=True)
class Task:
    """One request of a batch, its conditions, and callbacks before each of its steps and at its
    end.

    ``arrays`` are float32: ``prompt_embeds`` (1, L, D) and, for families that have them,
    ``negative_embeds``, ``pooled_embeds`` (1, P), ``image_embeds`` (1, N, E) and ``image_latents``
    (1, C, t, H, W), which may be omitted if the image is optional. Texts are not padded.

    ``before_step(i)`` may raise to stop the request: all ranks then stop it before this step, and
    the error is its outcome. Otherwise the outcome is normalised latents float32 (1, C, T, H, W),
    or ``GenerationError`` if only this request failed. For a step that reuses the result of an
    earlier one, ``before_reuse(i)`` is called first. ``estimated`` takes what the rank sends of
    `Sample.estimate` before some of the steps. ``end`` takes the outcome as soon as it is known,
    while other requests of the batch run.
    """

    request: VideoRequest
    arrays: Mapping[str, np.ndarray]
    before_step: Callable[[int], None]
    before_reuse: Callable[[int], None] = lambda _step: None
    estimated: Callable[[np.ndarray], None] = lambda _estimate: None
    end: Callable[[Outcome], None] = lambda _outcome: None


Join = Callable[[int], Sequence[Task]]
"""Returns tasks that join a batch, given the number of those that run in it."""


class RunningTasks:
    """The tasks that have not ended, by place in the batch."""

    def __init__(self, tasks: Sequence[Task], join: Join) -> None:
        self._running: dict[int, Task] = dict(enumerate(tasks))
        self._came, self._join = len(tasks), join

    def step(self, message: Step, arrays: Arrays) -> tuple[Verdict, Arrays]:
        """Handle the message of a step. Returns the answer and the arrays that belong to it."""
        latents = dict(arrays)
        estimate = latents.pop(ESTIMATE.key, None)
        self._end(latents, message.errors)
        if estimate is not None and message.estimated in self._running:
            self._running[message.estimated].estimated(estimate)
        stops: set[int] = set()
        for place, step in message.steps.items():
            # Requests that have failed take no further step.
            if (task := self._running.get(place)) is None:
                continue
            if place in message.reused:
                task.before_reuse(step)
            try:
                task.before_step(step)
            except BaseException as error:  # noqa: BLE001 - the outcome of this task
                stops.add(place)
                self._running.pop(place).end(error)
        joining = self._join(len(self._running)) if message.open else ()
        for place, task in enumerate(joining, self._came):
            self._running[place] = task
        self._came += len(joining)
        verdict = Verdict(stop=frozenset(stops), joining=tuple(task.request for task in joining))
        return verdict, join([task.arrays for task in joining])

    def done(self, message: Done, latents: Arrays) -> None:
        """Handle the last message of a rank."""
        self._end(latents, message.errors)

    def fail(self, error: BaseException) -> None:
        """End all tasks that have not ended with ``error``."""
        while self._running:
            self._running.popitem()[1].end(error)

    def _end(self, latents: Arrays, errors: Mapping[int, str]) -> None:
        for place, array in latents.items():
            self._running.pop(int(place)).end(array)
        for place, reason in errors.items():
            if place in self._running:  # each rank reports an error of all
                self._running.pop(place).end(GenerationError(reason))
