"""The client for programs without an event loop."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from pipeline.client.messages import (
    CONTROL,
    ENSEMBLE,
    Progress,
    Video,
    control_answer,
    control_inputs,
    ends_stream,
    read_event,
    request_inputs,
)
from pipeline.errors import ServerError, TritonVideoError
from pipeline.spec import SamplingParams

POLL_S = 0.2
DRAIN_S = 5.0  # for the step under way, and the error that ends the stream after it


class VideoClient:
    """Talks gRPC to one Triton, one video at a time. Use it as a context manager:
    a stream left open would hang the process at its end.
    """

    def __init__(self, url: str, token: str | None = None):
        """``url`` is ``host:port``, with or without ``grpc://``, or ``unix:PATH``.

        ``token`` lets this client cancel and list jobs where Triton requires one.
        """
        self.url = url.removeprefix("grpc://")
        self._token = token
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
        self.status()  # raises where the token is missing: then a job could not be cancelled

    def generate(
        self,
        params: SamplingParams,
        *,
        picture: bytes | None = None,
        return_frames: bool = False,
        job_id: str | None = None,
    ) -> Iterator[Progress | Video]:
        """Make one video: ``Progress`` as it comes, then one ``Video``.

        ``picture`` is the file of the picture that it begins from: PNG, JPEG or WebP.

        Closing the iterator early (also by Ctrl-C in the loop that reads it) cancels the work on the server.
        Raises ``InputError``, ``CancelledError``, ``GenerationError`` or ``ServerError``.
        """
        job_id = job_id or uuid.uuid4().hex
        arrived: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._grpc.start_stream(lambda result, error: arrived.put((result, error)))
        finished = False
        try:
            self._grpc.async_stream_infer(
                ENSEMBLE,
                request_inputs(params, picture, return_frames),
                request_id=job_id,
                enable_empty_final_response=True,
            )
            while not finished:
                event = read_event(*self._next(arrived), self.url)
                finished = isinstance(event, Video)
                if event:
                    yield event
        except TritonVideoError:
            finished = True
            raise
        finally:
            # A stream that is cancelled may crash Triton 2.51: only one that does not end by itself is.
            finished = finished or self._abandon(job_id, arrived)
            self._grpc.stop_stream(cancel_requests=not finished)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop the job wherever it is; returns each stage's answer. Raises ``ServerError``."""
        return self._control("cancel", job_id)

    def status(self) -> dict[str, Any]:
        """What runs: stage -> {"jobs": {id: [step, total]}}. Raises ``ServerError``."""
        return self._control("status", "")

    def _control(self, action: str, job_id: str) -> dict[str, Any]:
        try:
            result = self._grpc.infer(CONTROL, control_inputs(action, job_id, self._token), client_timeout=5)
        except InferenceServerException as error:
            raise ServerError(f"the Triton at {self.url} took no control message: {error.message()}") from None
        return control_answer(result)

    def _abandon(self, job_id: str, arrived: queue.SimpleQueue[tuple[Any, Any]]) -> bool:
        """Stop the job; whether its stream ended. The error or interrupt on its way up matters more than one here."""
        with suppress(ServerError, queue.Empty):
            self.cancel(job_id)
            while not ends_stream(*arrived.get(timeout=DRAIN_S)):
                pass
            return True
        return False

    @staticmethod
    def _next(arrived: queue.SimpleQueue[tuple[Any, Any]]) -> tuple[Any, Any]:
        # A wait without a timeout would not let Ctrl-C through.
        while True:
            try:
                return arrived.get(timeout=POLL_S)
            except queue.Empty:
                continue
