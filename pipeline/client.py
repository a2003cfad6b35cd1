"""The client of the ensemble: a request in, a stream of progress out, and the video at its end. No torch."""

from __future__ import annotations

import json
import queue
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from pipeline.errors import CancelledError, GenerationError, InputError, ServerError, TritonVideoError
from pipeline.spec import SamplingParams, VideoRequest
from pipeline.tensors import (
    ACTION,
    ANSWER,
    FRAMES,
    JOB_ID,
    PROGRESS,
    RESULT,
    RETURN_FRAMES,
    SAMPLING,
    STAGE,
    VIDEO,
    Tensor,
)

ENSEMBLE = "video"
DTYPES = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}
POLL_S = 0.2


@dataclass(frozen=True)
class Progress:
    """``step`` of ``total`` steps of ``stage`` ("denoise" or "decode") are done."""

    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Video:
    """The end of a stream: the MP4 file, the request as it was made, and uint8 frames (T, H, W, 3) if asked for."""

    mp4: bytes
    request: VideoRequest
    frames: np.ndarray | None


class VideoClient:
    """Talks gRPC to one Triton, one video at a time. Use it as a context manager:
    a stream left open would hang the process at its end.
    """

    def __init__(self, url: str):
        """``url`` is ``host:port``, with or without ``grpc://``."""
        self.url = url.removeprefix("grpc://")
        self._grpc = triton.InferenceServerClient(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._grpc.close()

    def require_ready(self) -> None:
        """Raises ``ServerError`` when no Triton answers at ``url`` or it does not serve the ensemble."""
        try:
            ready = self._grpc.is_model_ready(ENSEMBLE, client_timeout=5)
        except InferenceServerException as error:
            raise ServerError(f"no Triton answers at {self.url}", details=str(error)) from None
        if not ready:
            raise ServerError(f"the Triton at {self.url} does not serve the model {ENSEMBLE!r}")

    def generate(
        self, params: SamplingParams, *, return_frames: bool = False, job_id: str | None = None
    ) -> Iterator[Progress | Video]:
        """Make one video: ``Progress`` as it comes, then one ``Video``.

        Closing the iterator early (also by Ctrl-C in the loop that reads it) cancels the work on the server.
        Raises ``InputError``, ``CancelledError``, ``GenerationError`` or ``ServerError``.
        """
        job_id = job_id or uuid.uuid4().hex
        arrived: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._grpc.start_stream(lambda result, error: arrived.put((result, error)))
        finished = False
        try:
            self._grpc.async_stream_infer(
                ENSEMBLE, _inputs(params, return_frames), request_id=job_id, enable_empty_final_response=True
            )
            for event in self._events(arrived):
                finished = isinstance(event, Video)
                yield event
        except TritonVideoError:
            finished = True
            raise
        finally:
            if not finished:
                self._abandon(job_id)
            self._grpc.stop_stream(cancel_requests=not finished)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop the job wherever it is; returns each stage's answer. Raises ``ServerError``."""
        return self._control("cancel", job_id)

    def status(self) -> dict[str, Any]:
        """What runs: stage -> {"jobs": {id: [step, total]}}. Raises ``ServerError``."""
        return self._control("status", "")

    def _control(self, action: str, job_id: str) -> dict[str, Any]:
        inputs = [_input(ACTION, action), _input(JOB_ID, job_id)]
        try:
            result = self._grpc.infer("control", inputs, client_timeout=5)
        except InferenceServerException as error:
            raise ServerError(f"the Triton at {self.url} took no control message: {error.message()}") from None
        assert result is not None  # only a call with a callback gives none
        return json.loads(_array(result, ANSWER)[0])

    def _abandon(self, job_id: str) -> None:
        """Best effort: the error or interrupt on its way up matters more than one from here."""
        try:
            self.cancel(job_id)
        except ServerError:
            return

    def _events(self, arrived: queue.SimpleQueue[tuple[Any, Any]]) -> Iterator[Progress | Video]:
        while True:
            result, error = self._next(arrived)
            if error is not None:
                raise _translate(error, self.url)
            names = {output.name for output in result.get_response().outputs}
            if VIDEO.name in names:
                frames = _array(result, FRAMES) if FRAMES.name in names else None
                request = VideoRequest.model_validate_json(_array(result, RESULT)[0])
                yield Video(_array(result, VIDEO)[0], request, frames)
                return
            if PROGRESS.name in names:
                step, total = _array(result, PROGRESS).tolist()
                yield Progress(_array(result, STAGE)[0].decode(), step, total)
            elif result.get_response().parameters["triton_final_response"].bool_param:
                raise GenerationError("the server ended the stream without a video")

    @staticmethod
    def _next(arrived: queue.SimpleQueue[tuple[Any, Any]]) -> tuple[Any, Any]:
        # A wait without a timeout would not let Ctrl-C through.
        while True:
            try:
                return arrived.get(timeout=POLL_S)
            except queue.Empty:
                continue


def _inputs(params: SamplingParams, return_frames: bool) -> list[triton.InferInput]:
    given = [(tensor, getattr(params, tensor.name.lower())) for tensor in SAMPLING]
    inputs = [_input(tensor, value) for tensor, value in given if value is not None]
    return [*inputs, _input(RETURN_FRAMES, return_frames)]


def _input(tensor: Tensor, value: object) -> triton.InferInput:
    encoded = value.encode() if isinstance(value, str) else value
    array = np.array([encoded], dtype=DTYPES[tensor.datatype])
    item = triton.InferInput(tensor.name, [1], tensor.datatype)
    item.set_data_from_numpy(array)
    return item


def _array(result: triton.InferResult, tensor: Tensor) -> np.ndarray:
    array = result.as_numpy(tensor.name)
    if array is None:
        raise GenerationError(f"the server's answer lacks {tensor.name}")
    return array


def _translate(error: InferenceServerException, url: str) -> TritonVideoError:
    """The error a stage raised, back in its own class; what Triton puts before a stage's sentence is cut off.

    Errors of a stream carry no status unless the header ``triton_grpc_error`` is sent, and after errors sent
    that way a server once died (cause unproven). So the sentences themselves decide: they are ours.
    """
    message = re.sub(r"^(in ensemble '[^']*', )+", "", error.message() or str(error))
    field, _, rest = message.partition(": ")
    if rest and field in SamplingParams.model_fields:
        return InputError(field, rest)
    if re.match(r"job \S* was cancelled", message):
        return CancelledError(message)
    if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
        return ServerError(f"lost the Triton at {url}: {message}")
    return GenerationError(message)
