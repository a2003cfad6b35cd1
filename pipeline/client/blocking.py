"""The blocking client, for programs without an event loop."""

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
    DeadStage,
    EventReader,
    Preview,
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
from pipeline.families import Inputs, SamplingParams
from pipeline.families.timeouts import HANG_TIMEOUT_S

POLL_S = 0.2
LIVE_TIMEOUT_S = 2.0
# The control model queries its stages sequentially, and waits two seconds for an unresponsive one.
CONTROL_TIMEOUT_S = 10.0
LOOK_S = 4.0  # between health checks while a stream sends no response
CONFIRM_S = 1.0  # in which Triton itself ends a request whose stage died, if it does
DRAIN_S = 5.0  # for the current step, and the error that then ends the stream
MAX_UNREAD = 4  # responses
MAX_RESPONSE_BYTES = (2 << 30) - 1  # gRPC's own limit: raw frames are large


class VideoClient:
    """A gRPC client of one Triton server, for one video at a time.

    Use it as a context manager: an open stream would keep the process from exiting.
    """

    def __init__(self, url: str, hang_timeout_s: float = HANG_TIMEOUT_S, token: str | None = None):
        """``url`` is ``host:port``, with or without ``grpc://``, or ``unix:PATH``.

        A server that answers no health check for ``hang_timeout_s`` seconds while it makes a video
        counts as hung. ``token`` lets this client cancel and list jobs where Triton requires one.
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
        """Close the connection. Running requests fail."""
        self._grpc.close()

    def require_ready(self) -> None:
        """Check that Triton is ready for jobs.

        Raises ``ServerError`` when no Triton responds at ``url``, it does not serve the ensemble,
        or the ``control`` model does not answer.
        """
        try:
            ready = self._grpc.is_model_ready(ENSEMBLE, client_timeout=5)
        except InferenceServerException as error:
            raise ServerError(f"no Triton answers at {self.url}", details=str(error)) from None
        if not ready:
            raise ServerError(f"the Triton at {self.url} does not serve the model {ENSEMBLE!r}")
        self.status()  # raises without a required token: jobs could not be cancelled

    def generate(
        self,
        params: SamplingParams,
        *,
        inputs: Inputs | None = None,
        return_frames: bool = False,
        job_id: str | None = None,
    ) -> Iterator[Progress | Video]:
        """Make one video: yield ``Progress`` as it arrives, then one ``Video``; no ``Preview``.

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
                request_inputs(params, inputs or Inputs(), return_frames),
                request_id=job_id,
                enable_empty_final_response=True,
            )
            while not finished:
                response = self._next(arrived, job_id)
                if isinstance(response, ServerError):
                    hangs = True
                    raise response
                event = reader.read(*response)
                finished = isinstance(event, Video)
                if event and not isinstance(event, Preview):
                    yield event
        except InferenceServerException as error:
            # tritonclient refuses a request to a stream that broke at once.
            finished = True
            raise ServerError(f"lost the Triton at {self.url}", details=str(error)) from None
        except MalformedAnswerError:
            raise  # the stream of such a server may never end
        except TritonVideoError:
            finished = True
            raise
        finally:
            finished = finished or self._abandon(job_id, arrived)
            arrived.close()
            self._stop(gracefully=finished and not hangs)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel the job in all stages and return each stage's answer. Raises ``ServerError``."""
        return self._control("cancel", job_id)

    def status(self) -> dict[str, Any]:
        """Return the running jobs: stage -> {"jobs": {id: [step, total]}}.

        Raises ``ServerError``.
        """
        return self._control("status", "")

    def live(self) -> bool:
        """Return whether the server process responds, whatever the state of its stages."""
        try:
            return bool(self._grpc.is_server_live(client_timeout=LIVE_TIMEOUT_S))
        except InferenceServerException:
            return False

    def stages(self) -> Stages:
        """Return the running jobs, or the fault, of each stage.

        When the ``control`` model is dead or silent, the result holds only its fault. Raises
        ``ServerError``.
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
        """Cancel the job, and return whether its stream ended.

        Errors are suppressed: they would hide the exception that is being raised.
        """
        deadline = time.monotonic() + DRAIN_S
        with suppress(ServerError, queue.Empty):
            self.cancel(job_id)
            while not ends_stream(*arrived.get(max(0.0, deadline - time.monotonic()))):
                pass
            return True
        return False

    def _look(self, job_id: str) -> tuple[bool, str | None]:
        """Return whether the server, or a stage that may run the job, hangs or is dead; and the
        dead stage that may have had the job, which no other stage has.
        """
        if not self.live():
            return True, None
        with suppress(ServerError):
            found = {stage: jobs for stage, jobs in self.stages().items() if stage != CONTROL}
            faults = {stage: jobs for stage, jobs in found.items() if isinstance(jobs, StageFault)}
            dead = [stage for stage, fault in faults.items() if fault is StageFault.DEAD]
            elsewhere = len(dead) < len(faults) or any(
                job_id in jobs for jobs in found.values() if isinstance(jobs, set)
            )
            return bool(faults), None if elsewhere else min(dead, default=None)
        return False, None

    def _stop(self, *, gracefully: bool) -> None:
        """Close the stream.

        A stream is cancelled only if it does not end by itself, because that may crash Triton 2.51.
        """
        if gracefully:
            # In a thread, because tritonclient waits for the end of the stream without a timeout.
            closing = threading.Thread(target=self._grpc.stop_stream, daemon=True)
            closing.start()
            closing.join(DRAIN_S)
            if not closing.is_alive():
                return
        self._grpc.stop_stream(cancel_requests=True)

    def _next(self, arrived: _Arrivals, job_id: str) -> tuple[Any, Any] | ServerError:
        """Wait for the next response and return it, or why the stream may never end: the server
        hangs, or the job was lost with a stage that died.

        A step may take any time. Raises ``ServerError`` when the stream ended without another
        response.
        """
        pause = min(LOOK_S, self._hang_timeout_s / 2)
        answered = time.monotonic()
        look_at = answered + pause
        suspect: str | None = None
        while True:
            ended = not self._receiving()
            # A wait without a timeout would block Ctrl-C.
            with suppress(queue.Empty):
                return arrived.get(POLL_S)
            if ended:
                raise ServerError(f"the Triton at {self.url} ended the stream without a video")
            if time.monotonic() < look_at:
                continue
            hangs, dead = self._look(job_id)
            if dead and dead == suspect:
                return DeadStage(dead, self.url)
            if not hangs:
                answered = time.monotonic()
            elif time.monotonic() - answered > self._hang_timeout_s:
                return ServerError(
                    f"the Triton at {self.url} has not answered for {self._hang_timeout_s:g} s"
                )
            suspect = dead
            look_at = time.monotonic() + (CONFIRM_S if dead else pause)

    def _receiving(self) -> bool:
        """Return whether tritonclient still reads the stream.

        tritonclient does not call back when a stream ends without an error.
        """
        stream = getattr(self._grpc, "_stream", None)
        thread = getattr(stream, "_handler", None)
        return thread is None or thread.is_alive()


class _Arrivals:
    """A bounded queue of responses from tritonclient's thread.

    It holds at most ``MAX_UNREAD``; gRPC holds back the rest of a flood.
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
        """Return the next response. Raises ``queue.Empty`` after ``timeout_s`` seconds."""
        return self._queue.get(timeout=timeout_s)

    def close(self) -> None:
        """Drop all further responses, so that tritonclient's thread can end."""
        self._closed.set()
