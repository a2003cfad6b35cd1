"""One request of the stage ``dit``, from its tensors to the end of its response stream.

Runs only inside a python stub: ``triton_python_backend_utils`` exists nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from pipeline.ensemble import tensors
from pipeline.ranks.group import Outcome, Task
from pipeline.triton import adapter
from pipeline.triton.batches import kind_of
from pipeline.triton.control import JobRegistry
from pipeline.triton.metrics import DitMetrics


class DitJob:
    """A request that runs in a batch. Its stream ends with it, independently of the other
    requests.
    """

    def __init__(
        self,
        request: Any,
        stream: adapter.Stream,
        conditions: Iterable[tensors.Tensor],
        registry: JobRegistry,
        metrics: DitMetrics,
        *,
        previews: bool = False,
    ):
        """Read the request. Raises ``InputError`` for one that cannot be read.

        With ``previews`` it sends estimates, which repositories of older versions have no output
        for.
        """
        self._video = video = adapter.video_request(request)
        self._id, self._steps = request.request_id(), video.num_inference_steps
        # The decoder puts the source of an extension before the new frames.
        extends = video.source_frames > 0
        self._source = adapter.optional_array(request, tensors.SOURCE.name) if extends else None
        self._stream, self._registry, self._metrics = stream, registry, metrics
        self._tick, self._count_reused = metrics.step_clock(), metrics.count_reused_step
        given = {each.key: adapter.optional_array(request, each.name) for each in conditions}
        arrays = {name: array for name, array in given.items() if array is not None}
        self.task = Task(video, arrays, self._border, self._before_reuse, self._estimated, self.end)
        self.kind = kind_of(video)
        self._running = ExitStack()
        self._step: int | None = None
        self._peak_bytes: int | None = None
        self._previews = previews
        self._estimate: np.ndarray | None = None

    def start(self) -> None:
        self._running.enter_context(self._registry.running(self._id))

    def end(self, outcome: Outcome) -> None:
        """Send the latents or the error, and end the stream."""
        with self._stream, self._running:
            if isinstance(outcome, BaseException):
                raise outcome
            self._border(self._steps)
            # The decoder cannot combine these with plain ensemble inputs, so the request travels
            # with the latents.
            made = self._video.model_copy(update={"peak_memory_bytes": self._peak_bytes})
            latents = [
                (tensors.LATENTS.name, outcome),
                (tensors.REQUEST.name, adapter.text(made.model_dump_json())),
            ]
            if self._source is not None:
                latents.append((tensors.SOURCE.name, self._source))
            self._stream.send(adapter.response(latents))

    def _before_reuse(self, step: int) -> None:
        if step != self._step:
            self._count_reused()

    def _estimated(self, estimate: np.ndarray) -> None:
        if self._previews:
            self._estimate = estimate

    def _border(self, step: int) -> None:
        """Report that a step begins. Within a step the rank may call it again: then only a
        cancellation matters.
        """
        if self._step is not None and (peak := self._metrics.peak_bytes):  # since it has begun
            self._peak_bytes = max(self._peak_bytes or 0, peak)
        again, self._step = step == self._step, step
        if not again:
            self._tick()
        self._registry.advance(self._id, step, self._steps)
        if not again or self._estimate is not None:
            progress = adapter.progress("denoise", step, self._steps, self._estimate)
            self._estimate = None
            self._stream.send(progress)


def begin(jobs: Sequence[DitJob]) -> list[Task]:
    """Return the tasks of jobs whose batch begins, or that join it."""
    for job in jobs:
        job.start()
    return [job.task for job in jobs]
