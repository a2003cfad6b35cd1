"""The asyncio client: it makes many videos at a time over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from pipeline.client.answers import printable
from pipeline.client.messages import (
    CONTROL,
    EventReader,
    Preview,
    Progress,
    Stages,
    Video,
    channel_options,
    control_answer,
    control_fault,
    control_inputs,
    model_info,
    no_control,
    request_inputs,
    stages_of,
)
from pipeline.ensemble.stages import ENSEMBLE
from pipeline.errors import ServerError
from pipeline.families import Inputs, ModelInfo, SamplingParams

READY_TIMEOUT_S = 5
# The control model queries its stages sequentially, and waits two seconds for an unresponsive one.
CONTROL_TIMEOUT_S = 10
LOAD_TIMEOUT_S = 1800
DRAIN_S = 20  # for the current step, and the error that then ends the stream
# A video of several minutes at the largest size takes a tenth of it. Only the blocking client
# requests raw frames.
MAX_RESPONSE_BYTES = 512 << 20
MAX_UNREAD = 4  # responses: gRPC holds back the rest of a flood


Response = tuple[Any, Any]  # a result, an error
Arrived = asyncio.Queue[Response | ServerError | None]


class AsyncVideoClient:
    """A gRPC client of one Triton server. Use it as an asynchronous context manager."""

    def __init__(self, url: str, token: str | None = None):
        """``url`` is ``host:port``, with or without ``grpc://``, or ``unix:PATH``.

        ``token`` lets this client cancel and list jobs where Triton requires one.
        """
        self.url = url.removeprefix("grpc://")
        self._token = token
        self._grpc = triton.InferenceServerClient(
            self.url, channel_args=channel_options(MAX_RESPONSE_BYTES)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._grpc.close()

    async def ready(self) -> bool:
        """Return whether Triton responds and serves the ensemble."""
        try:
            return bool(await self._grpc.is_model_ready(ENSEMBLE, client_timeout=READY_TIMEOUT_S))
        except InferenceServerException:
            return False

    async def model_info(self) -> ModelInfo:
        """Return the description of the served model.

        Raises ``ServerError`` when Triton does not respond or the description is invalid.
        """
        try:
            answer: Any = await self._grpc.get_model_config(
                ENSEMBLE, client_timeout=CONTROL_TIMEOUT_S
            )
        except InferenceServerException as error:
            raise ServerError(
                f"no Triton with the model {ENSEMBLE!r} answers at {self.url}", details=str(error)
            ) from None
        return model_info(answer.config)

    async def generate(
        self,
        params: SamplingParams,
        *,
        inputs: Inputs | None = None,
        return_frames: bool = False,
        job_id: str,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Progress | Preview | Video]:
        """Make one video: yield ``Progress`` and ``Preview`` as they arrive, then one ``Video``.

        ``headers`` are sent as gRPC metadata, for example ``traceparent``.

        Closing the iterator early, or cancelling the task that reads it, stops the work on the
        server. Raises ``InputError``, ``CancelledError``, ``GenerationError`` or ``ServerError``.
        """

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {
                "model_name": ENSEMBLE,
                "inputs": request_inputs(params, inputs or Inputs(), return_frames),
                "request_id": job_id,
                "enable_empty_final_response": True,
            }

        stream: Any = self._grpc.stream_infer(requests(), headers=dict(headers or {}))
        arrived: Arrived = asyncio.Queue(MAX_UNREAD)
        reader = EventReader(self.url)
        reading = asyncio.create_task(self._read(stream, arrived))
        try:
            while (response := await arrived.get()) is not None:
                if isinstance(response, ServerError):
                    raise response
                event = reader.read(*response)
                if isinstance(event, Video):
                    # Triton ends the stream by itself. The video is complete, so a stream that does
                    # not end must not delay it any longer.
                    with suppress(TimeoutError):
                        await asyncio.wait_for(_discard(arrived), DRAIN_S)
                    yield event
                    return
                if event:
                    yield event
            raise ServerError(f"the Triton at {self.url} ended the stream without a video")
        finally:
            if not reading.done():
                # In a separate task, because this one may already be cancelled.
                await asyncio.shield(asyncio.ensure_future(self._abandon(job_id, reading, arrived)))

    async def _read(self, stream: Any, arrived: Arrived) -> None:
        """Put every response of a stream into ``arrived``, then None.

        It runs in a separate task that is cancelled only as a last resort: a cancelled stream may
        crash Triton 2.51.
        """
        try:
            async for response in stream:
                await arrived.put(response)
        except InferenceServerException as error:
            await arrived.put(
                ServerError(f"lost the Triton at {self.url}: {printable(error.message())}")
            )
        except grpc.RpcError as error:
            # tritonclient translates the errors of its calls, but not all errors of an open stream.
            await arrived.put(ServerError(f"lost the Triton at {self.url}", details=str(error)))
        await arrived.put(None)

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel the job in all stages and return each stage's answer. Raises ``ServerError``."""
        return await self._control("cancel", job_id)

    async def status(self) -> Stages:
        """Return the running jobs, or the fault, of each stage.

        When the ``control`` model is dead or silent, the result holds only its fault. Raises
        ``ServerError`` when the ensemble is not ready. Triton reports it ready even while a stage
        is dead.
        """
        if not await self.ready():
            raise ServerError(f"no Triton with the model {ENSEMBLE!r} answers at {self.url}")
        try:
            result = await self._ask_control("status", "")
        except InferenceServerException as error:
            return {CONTROL: control_fault(error, self.url)}
        return stages_of(control_answer(result), self.url)

    async def reload(self, stage: str) -> None:
        """Restart the process of a stage: unload its model, then load it.

        Raises ``ServerError`` when Triton refuses; it may run without explicit model control.
        """
        try:
            await self._grpc.unload_model(stage, client_timeout=LOAD_TIMEOUT_S)
            await self._grpc.load_model(stage, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise ServerError(
                f"the Triton at {self.url} did not load {stage} again: {printable(error.message())}"
            ) from None

    async def _control(self, action: str, job_id: str) -> dict[str, Any]:
        try:
            return control_answer(await self._ask_control(action, job_id))
        except InferenceServerException as error:
            raise no_control(error, self.url) from None

    async def _ask_control(self, action: str, job_id: str) -> Any:
        inputs = control_inputs(action, job_id, self._token)
        return await self._grpc.infer(CONTROL, inputs, client_timeout=CONTROL_TIMEOUT_S)

    async def _abandon(self, job_id: str, reading: asyncio.Task[None], arrived: Arrived) -> None:
        """Cancel the job, and wait up to ``DRAIN_S`` seconds for Triton to end the stream."""
        with suppress(ServerError, TimeoutError):
            await self.cancel(job_id)
            await asyncio.wait_for(_discard(arrived), DRAIN_S)
        reading.cancel()


async def _discard(arrived: Arrived) -> None:
    """Discard the remaining responses, up to the end of the stream."""
    while await arrived.get() is not None:
        pass
