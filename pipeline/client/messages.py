"""Requests to the ensemble and the ``control`` model, and their responses, for both clients."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from pipeline.client import answers
from pipeline.ensemble import stages
from pipeline.ensemble.stages import ENSEMBLE
from pipeline.ensemble.tensors import (
    ACTION,
    FILES,
    FRAMES,
    JOB_ID,
    MODEL_PARAMETER,
    PREVIEW,
    PROGRESS,
    RETURN_FRAMES,
    SAMPLING,
    SPRITESHEET,
    THUMBNAIL,
    TOKEN,
    VIDEO,
    Tensor,
)
from pipeline.errors import (
    INTERRUPTED,
    CancelledError,
    GenerationError,
    InputError,
    ServerError,
    TritonVideoError,
)
from pipeline.families import Inputs, ModelInfo, SamplingParams, VideoRequest

CONTROL, DECODER = stages.CONTROL.name, stages.VAE_DECODER.name
MAX_RESPONSES = 20_000  # per stream: triton-video sends at most 1000 steps and 257 chunks
MAX_MODEL_CHARACTERS = 256 << 10
MAX_NAME_CHARACTERS = 256
FILE_FIELDS = {tensor.key for tensor in FILES}
DTYPES = {
    "BYTES": np.object_,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class Progress:
    """Progress of a job: ``stage`` ("denoise" or "decode") has done ``step`` of ``total`` steps."""

    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Preview:
    """A small WebP image of a video that is being denoised: what the model expects now."""

    webp: bytes


@dataclass(frozen=True)
class Video:
    """The last event of a stream: the MP4 file, two WebP previews and the completed request.

    ``frames`` are uint8 (T, H, W, 3) if they were requested, else None.
    """

    mp4: bytes
    thumbnail: bytes
    spritesheet: bytes
    request: VideoRequest
    frames: np.ndarray | None


class StageFault(Enum):
    """The reason why a stage does not report its jobs."""

    DEAD = "dead"
    """The stage's process ended. Triton does not restart it, and still reports ready."""
    SILENT = "silent"
    """The stage's process is alive and does not respond."""


Stages = dict[str, set[str] | StageFault]
"""Stage -> the ids of the jobs that it runs, or the reason why it does not report them.

Stages that cannot be queried are left out.
"""


class DeadStage(ServerError):  # noqa: N818 - named after the state it reports
    """The process of the model ``stage`` ended; Triton keeps running without it and still reports
    ready.
    """

    def __init__(self, stage: str, url: str):
        super().__init__(f"the stage {stage} of the Triton at {url} is dead")
        self.stage = stage


def request_inputs(
    params: SamplingParams, inputs: Inputs, return_frames: bool
) -> list[triton.InferInput]:
    """Return the input tensors of a request. A value that is not set has none: a Triton of an older
    version does not take it.
    """
    values = params.model_dump(mode="json")
    given = [
        *((tensor, values[tensor.key]) for tensor in SAMPLING),
        *zip(FILES, (inputs.image, inputs.last_frame, inputs.video), strict=True),
    ]
    made = [_input(tensor, value) for tensor, value in given if value is not None]
    return [*made, _input(RETURN_FRAMES, return_frames)]


def control_inputs(action: str, job_id: str, token: str | None) -> list[triton.InferInput]:
    """Return the input tensors of a message to the ``control`` model.

    ``token`` is the secret of a Triton that listens on TCP, see `pipeline.triton.control_token`.
    """
    given = ((ACTION, action), (JOB_ID, job_id), (TOKEN, token))
    return [_input(tensor, value) for tensor, value in given if value is not None]


def channel_options(max_response_bytes: int) -> list[tuple[str, int]]:
    """Return the options of a gRPC channel that refuses responses above ``max_response_bytes``.

    Requests are trusted, so their size is not limited.
    """
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", max_response_bytes),
    ]


def control_answer(result: Any) -> dict[str, Any]:
    """Return the answer of each stage. Raises ``ServerError`` when the response is malformed."""
    try:
        return answers.control(result.get_response())
    except answers.MalformedAnswerError as error:
        raise ServerError(str(error)) from None


def stages_of(told: Mapping[str, Any], url: str) -> Stages:
    """Return the running jobs, or the fault, of each stage from the ``control`` model's answer.

    Raises ``ServerError`` for a stage whose answer has neither jobs nor an error.
    """

    def stage(name: str, answer: Mapping[str, Any]) -> set[str] | StageFault:
        if "error" in answer:
            return StageFault.DEAD if answer.get("dead") else StageFault.SILENT
        if not isinstance(answer.get("jobs"), dict):
            name = answers.printable(name)
            raise ServerError(
                f"the stage {name} of the Triton at {url} does not say which jobs it has"
            )
        return set(answer["jobs"])

    return {name: stage(name, answer) for name, answer in told.items()}


def control_fault(error: InferenceServerException, url: str) -> StageFault:
    """Return the fault of the ``control`` model, for a server that itself responds.

    Raises any other error as ``ServerError``.
    """
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return StageFault.SILENT
    # A model without an available version was unloaded and has not been loaded again.
    if isinstance(translate(error, url), DeadStage) or "has no available versions" in str(
        error.message()
    ):
        return StageFault.DEAD
    raise no_control(error, url)


def no_control(error: InferenceServerException, url: str) -> ServerError:
    return ServerError(
        f"the Triton at {url} took no control message: {answers.printable(error.message())}"
    )


def model_info(config: Any) -> ModelInfo:
    """Return the description of the served model, from the ensemble's configuration.

    Raises ``ServerError`` when it is missing or invalid.
    """
    text = config.parameters[MODEL_PARAMETER].string_value
    try:
        if len(text) > MAX_MODEL_CHARACTERS:
            raise ValueError(f"the description has more than {MAX_MODEL_CHARACTERS} characters")
        info = ModelInfo.model_validate_json(text)
        if len(info.name) > MAX_NAME_CHARACTERS or not info.name.isprintable():
            raise ValueError(
                f"the name is not one of up to {MAX_NAME_CHARACTERS} printable characters"
            )
    except ValueError as error:
        raise ServerError(
            f"the model {ENSEMBLE!r} of this Triton does not describe itself; export the "
            "checkpoint again",
            details=str(error)[: answers.MAX_SENTENCE],
        ) from None
    return info


class EventReader:
    """Reads at most `MAX_RESPONSES` responses of one stream from the Triton at ``url``."""

    def __init__(self, url: str):
        self._url = url
        self._responses = 0

    def read(
        self, result: Any, error: InferenceServerException | None
    ) -> Progress | Preview | Video | None:
        """Read one response; return ``None`` for an empty one.

        Raises the error that ended the stream without a video, and ``MalformedAnswerError`` for a
        response that no stage of triton-video sends.
        """
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise answers.MalformedAnswerError(
                f"the stream has more than {MAX_RESPONSES} responses"
            )
        if error is not None:
            raise translate(error, self._url)
        answer = result.get_response()
        names = answers.names(answer)
        if VIDEO.name in names:
            return _video(answer, with_frames=FRAMES.name in names)
        if PROGRESS.name in names:
            return Progress(*answers.progress(answer))
        if PREVIEW.name in names:
            return Preview(answers.preview(answer))
        if answer.ByteSize() > answers.MAX_PROGRESS_BYTES:
            raise answers.MalformedAnswerError("Triton sent a large response without a video")
        if ends_stream(result, None):
            raise GenerationError("the server ended the stream without a video")
        return None


def _video(answer: Any, *, with_frames: bool) -> Video:
    made = answers.request(answer)
    return Video(
        answers.mp4(answer, VIDEO),
        answers.webp(answer, THUMBNAIL),
        answers.webp(answer, SPRITESHEET),
        made,
        answers.frames(answer, made) if with_frames else None,
    )


def ends_stream(result: Any, error: InferenceServerException | None) -> bool:
    """Return whether this response is the last one of its stream."""
    return error is not None or result.get_response().parameters["triton_final_response"].bool_param


def translate(error: InferenceServerException, url: str) -> TritonVideoError:
    """Return the error that a stage raised, in its original class, without Triton's prefix.

    Errors of a stream carry no status unless the header ``triton_grpc_error`` is sent, which makes
    each of them end the stream. The class is therefore derived from the message, whose wording
    triton-video defines.
    """
    message = answers.printable(
        re.sub(r"^(in ensemble '[^']*', )+", "", error.message() or str(error))
    )
    field, _, rest = message.partition(": ")
    if rest and (field in SamplingParams.model_fields or field in FILE_FIELDS):
        return InputError(field, rest)
    if re.match(r"job \S* was cancelled", message):
        return CancelledError(message)
    if message.startswith(INTERRUPTED):
        return ServerError(
            f"the Triton at {url} was interrupted: {message.removeprefix(INTERRUPTED)}"
        )
    if stub := re.search(r"stub process '(.+)_\d+_\d+' is not healthy", message, re.IGNORECASE):
        return DeadStage(stub[1], url)
    if re.search(rf"expected \d+ inputs but got \d+ inputs for model '(?!{ENSEMBLE}')", message):
        # Triton passes on the empty result of a stage whose process ended within a request.
        return ServerError(f"a stage of the Triton at {url} ended during the request")
    if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
        return ServerError(f"lost the Triton at {url}: {message}")
    return GenerationError(message)


def _input(tensor: Tensor, value: object) -> triton.InferInput:
    text = json.dumps(value) if isinstance(value, list) else value
    encoded = text.encode() if isinstance(text, str) else text
    array = np.array([encoded], dtype=DTYPES[tensor.datatype])
    item = triton.InferInput(tensor.name, [1], tensor.datatype)
    item.set_data_from_numpy(array)
    return item
