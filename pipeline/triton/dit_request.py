"""One request of the stage ``dit``, from its tensors to the end of its stream of responses.

Runs only inside a python stub: ``triton_python_backend_utils`` exists nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from pipeline.ensemble import tensors
from pipeline.ranks.group import Outcome, Task
from pipeline.triton import adapter
from pipeline.triton.batches import kind_of
from pipeline.triton.control import JobRegistry


class DitJob:
    """A request that runs in a batch. Its stream ends when it does, whatever becomes of the
    others.
    """

    def __init__(
        self,
        request: Any,
        stream: adapter.Stream,
        conditions: Iterable[tensors.Tensor],
        registry: JobRegistry,
        tick: Callable[[], None],
    ):
        """Raises ``InputError`` for a request that cannot be read. ``tick`` is called at each
        border of its steps.
        """
        video = adapter.video_request(request)
        self._id, self._steps, self._text = (
            request.request_id(),
            video.num_inference_steps,
            video.model_dump_json(),
        )
        self._stream, self._registry, self._tick = stream, registry, tick
        given = {each.key: adapter.optional_array(request, each.name) for each in conditions}
        arrays = {name: array for name, array in given.items() if array is not None}
        self.task = Task(video, arrays, self._before_step)
        self.kind = kind_of(video)
        self._running, self._ended = ExitStack(), False
        self._step: int | None = None

    def start(self) -> None:
        self._running.enter_context(self._registry.running(self._id))

    def end(self, outcome: Outcome) -> None:
        """Sends the latents or the error, and ends the stream. What comes to a job that has
        ended is dropped.
        """
        if self._ended:
            return
        self._ended = True
        with self._stream, self._running:
            if isinstance(outcome, BaseException):
                raise outcome
            self._border(self._steps)
            # The decoder may not mix these with plain ensemble inputs, so the request travels with
            # the latents.
            latents = [
                (tensors.LATENTS.name, outcome),
                (tensors.REQUEST.name, adapter.text(self._text)),
            ]
            self._stream.send(adapter.response(latents))

    def _before_step(self, step: int) -> None:
        try:
            self._border(step)
        except Exception as error:
            # At once: the others of the batch go on.
            self.end(error)
            raise

    def _border(self, step: int) -> None:
        """A step begins, or within it the rank asks again: then only a cancellation matters."""
        again, self._step = step == self._step, step
        if not again:
            self._tick()
        self._registry.advance(self._id, step, self._steps)
        if not again:
            self._stream.send(adapter.progress("denoise", step, self._steps))
