"""The client for programs without an event loop."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from pipeline.client.answers import MalformedAnswerError
from pipeline.client.messages import (
    CONTROL,
    EventReader,
    Progress,
    StageFault,
    Stages,
    Video,
    channel_options,
    control_answer,
    control_fault,
    control_inputs,
    ends_stream,
    no_control,
    request_inputs,
    stages_of,
)
from pipeline.ensemble.stages import ENSEMBLE
from pipeline.errors import ServerError, TritonVideoError
from pipeline.families import SamplingParams
from pipeline.families.timeouts import HANG_TIMEOUT_S

POLL_S = 0.2
LIVE_TIMEOUT_S = 2.0
# The control model asks its stages sequentially, and waits two seconds for one that is silent.
CONTROL_TIMEOUT_S = 10.0
LOOK_S = 5.0  # without a response of a stream before the server is asked whether it hangs
DRAIN_S = 5.0  # for the step under way, and the error that ends the stream after it
MAX_UNREAD = 4  # responses
MAX_RESPONSE_BYTES = (2 << 30) - 1  # gRPC's own bound: raw frames are large


class VideoClient:
    """Talks gRPC to one Triton, one video at a time. Use it as a context manager:
    a stream left open would hang the process at its end.
    """

    def __init__(self, url: str, hang_timeout_s: float = HANG_TIMEOUT_S, token: str | None = None):
        """``url`` is ``host:port``, with or without ``grpc://``, or ``unix:PATH``.

        A server that answers no question for ``hang_timeout_s`` while it makes a video counts as
        hung. ``token`` lets this client cancel and list jobs where Triton requires one.
        """
        self.url = url.removeprefix("grpc://")
        self._hang_timeout_s = hang_timeout_s
        self._token = token
        self._grpc = triton.InferenceServerClient(
            self.url, channel_args=channel_options(MAX_RESPONSE_BYTES)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Requests under way fail."""
        self._grpc.close()

    def require_ready(self) -> None:
        """Raises ``ServerError`` when no Triton answers at ``url`` or it does not serve the
        ensemble.
        """
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
        image: bytes | None = None,
        return_frames: bool = False,
        job_id: str | None = None,
    ) -> Iterator[Progress | Video]:
        """Make one video: ``Progress`` as it comes, then one ``Video``.

        ``image`` is the file of the image that it begins from: PNG, JPEG or WebP.

        Closing the iterator early (also by Ctrl-C in the loop that reads it) cancels the work on
        the server. Raises ``InputError``, ``CancelledError``, ``GenerationError`` or
        ``ServerError``.
        """
        job_id = job_id or uuid.uuid4().hex
        arrived, reader = _Arrivals(), EventReader(self.url)
        self._grpc.start_stream(arrived.put)
        finished, hangs = False, False
        try:
            self._grpc.async_stream_infer(
                ENSEMBLE,
                request_inputs(params, image, return_frames),
                request_id=job_id,
                enable_empty_final_response=True,
            )
            while not finished:
                response = self._next(arrived)
                if response is None:
                    hangs = True
                    raise ServerError(
                        f"the Triton at {self.url} has not answered for {self._hang_timeout_s:g} s"
                    )
                event = reader.read(*response)
                finished = isinstance(event, Video)
                if event:
                    yield event
        except MalformedAnswerError:
            raise  # nor need the stream end
        except TritonVideoError:
            finished = True
            raise
        finally:
            finished = finished or self._abandon(job_id, arrived)
            arrived.close()
            self._stop(gracefully=finished and not hangs)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop the job wherever it is; returns each stage's answer. Raises ``ServerError``."""
        return self._control("cancel", job_id)

    def status(self) -> dict[str, Any]:
        """What runs: stage -> {"jobs": {id: [step, total]}}. Raises ``ServerError``."""
        return self._control("status", "")

    def live(self) -> bool:
        """Whether the server itself answers, whatever its stages do."""
        try:
            return bool(self._grpc.is_server_live(client_timeout=LIVE_TIMEOUT_S))
        except InferenceServerException:
            return False

    def stages(self) -> Stages:
        """What each stage does; of a ``control`` model that is dead or silent nothing else.
        Raises ``ServerError``.
        """
        try:
            result = self._ask_control("status", "")
        except InferenceServerException as error:
            return {CONTROL: control_fault(error, self.url)}
        return stages_of(control_answer(result), self.url)

    def _control(self, action: str, job_id: str) -> dict[str, Any]:
        try:
            return control_answer(self._ask_control(action, job_id))
        except InferenceServerException as error:
            raise no_control(error, self.url) from None

    def _ask_control(self, action: str, job_id: str) -> Any:
        inputs = control_inputs(action, job_id, self._token)
        return self._grpc.infer(CONTROL, inputs, client_timeout=CONTROL_TIMEOUT_S)

    def _abandon(self, job_id: str, arrived: _Arrivals) -> bool:
        """Stop the job; whether its stream ended. The error or interrupt on its way up matters
        more than one here.
        """
        deadline = time.monotonic() + DRAIN_S
        with suppress(ServerError, queue.Empty):
            self.cancel(job_id)
            while not ends_stream(*arrived.get(max(0.0, deadline - time.monotonic()))):
                pass
            return True
        return False

    def _hangs(self) -> bool:
        """Whether no answer comes from the server, or from a stage that may have the job."""
        if not self.live():
            return True
        with suppress(ServerError):
            return any(
                found is StageFault.SILENT
                for stage, found in self.stages().items()
                if stage != CONTROL
            )
        return False

    def _stop(self, *, gracefully: bool) -> None:
        """Close the stream. One that is cancelled may crash Triton 2.51: only one that does not
        end by itself is.
        """
        if gracefully:
            # In a thread: tritonclient waits for the end of the stream without a limit.
            closing = threading.Thread(target=self._grpc.stop_stream, daemon=True)
            closing.start()
            closing.join(DRAIN_S)
            if not closing.is_alive():
                return
        self._grpc.stop_stream(cancel_requests=True)

    def _next(self, arrived: _Arrivals) -> tuple[Any, Any] | None:
        """The next response; ``None`` when the server hangs. A step may take any time.

        Raises ``ServerError`` when the stream has ended without another response.
        """
        pause = min(LOOK_S, self._hang_timeout_s / 2)
        answered = time.monotonic()
        look_at = answered + pause
        while True:
            ended = not self._receiving()
            # A wait without a timeout would not let Ctrl-C through.
            with suppress(queue.Empty):
                return arrived.get(POLL_S)
            if ended:
                raise ServerError(f"the Triton at {self.url} ended the stream without a video")
            if time.monotonic() < look_at:
                continue
            if not self._hangs():
                answered = time.monotonic()
            elif time.monotonic() - answered > self._hang_timeout_s:
                return None
            look_at = time.monotonic() + pause

    def _receiving(self) -> bool:
        """Whether tritonclient still reads the stream: its end without an error calls nothing
        back.
        """
        stream = getattr(self._grpc, "_stream", None)
        thread = getattr(stream, "_handler", None)
        return thread is None or thread.is_alive()


class _Arrivals:
    """Responses on their way from tritonclient's thread, a few at a time: gRPC keeps the rest of
    a flood back.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Any, Any]] = queue.Queue(MAX_UNREAD)
        self._closed = threading.Event()

    def put(self, result: Any, error: Any) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._queue.put((result, error), timeout=POLL_S)
                return

    def get(self, timeout_s: float) -> tuple[Any, Any]:
        """Raises ``queue.Empty`` after ``timeout_s`` seconds."""
        return self._queue.get(timeout=timeout_s)

    def close(self) -> None:
        """Drop what still comes, so that tritonclient's thread can end."""
        self._closed.set()
