"""What goes over the wire to the ensemble and the ``control`` model, and what comes back, for
both clients.
"""

from __future__ import annotations

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
    FRAMES,
    INPUT_REFERENCE,
    JOB_ID,
    MODEL_PARAMETER,
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
from pipeline.families import ModelInfo, SamplingParams, VideoRequest

CONTROL = stages.CONTROL.name
MAX_RESPONSES = 20_000  # of one stream: 1000 steps and 257 chunks are the most that ours sends
MAX_MODEL_CHARACTERS = 256 << 10
MAX_NAME_CHARACTERS = 256
DTYPES = {
    "BYTES": np.object_,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class Progress:
    """``step`` of ``total`` steps of ``stage`` ("denoise" or "decode") are done."""

    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Video:
    """The end of a stream: the MP4 file, its two WebP images, the request as it was made, and
    uint8 frames (T, H, W, 3) if asked for.
    """

    mp4: bytes
    thumbnail: bytes
    spritesheet: bytes
    request: VideoRequest
    frames: np.ndarray | None


class StageFault(Enum):
    """Why a stage does not say what it runs."""

    DEAD = "dead"
    """Its process has ended. Triton never starts it again by itself, and reports ready all the
    same.
    """
    SILENT = "silent"
    """Its process lives and does not answer."""


Stages = dict[str, set[str] | StageFault]
"""The ids of the jobs that each stage runs, or why it does not say. Without the stages that
cannot be asked.
"""


class DeadStage(ServerError):  # noqa: N818 - what it is
    """The process of the model ``stage`` is gone; Triton goes on without it, and says that it is
    ready.
    """

    def __init__(self, stage: str, url: str):
        super().__init__(f"the stage {stage} of the Triton at {url} is dead")
        self.stage = stage


def request_inputs(
    params: SamplingParams, image: bytes | None, return_frames: bool
) -> list[triton.InferInput]:
    """``image`` is the file of the reference image."""
    given = [
        *((tensor, getattr(params, tensor.name.lower())) for tensor in SAMPLING),
        (INPUT_REFERENCE, image),
    ]
    inputs = [_input(tensor, value) for tensor, value in given if value is not None]
    return [*inputs, _input(RETURN_FRAMES, return_frames)]


def control_inputs(action: str, job_id: str, token: str | None) -> list[triton.InferInput]:
    """``token`` is the secret of a Triton that listens on TCP, see
    `pipeline.triton.control_token`.
    """
    given = ((ACTION, action), (JOB_ID, job_id), (TOKEN, token))
    return [_input(tensor, value) for tensor, value in given if value is not None]


def channel_options(max_response_bytes: int) -> list[tuple[str, int]]:
    """Options of a gRPC channel that refuses larger responses; what is sent is ours, and
    unbounded.
    """
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", max_response_bytes),
    ]


def control_answer(result: Any) -> dict[str, Any]:
    """The answer of each stage. Raises ``ServerError`` for what is none."""
    try:
        return answers.control(result.get_response())
    except answers.MalformedAnswerError as error:
        raise ServerError(str(error)) from None


def stages_of(told: Mapping[str, Any], url: str) -> Stages:
    """What the ``control`` model answers for each stage. Raises ``ServerError`` for a stage that
    does not say.
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
    """What is wrong with the ``control`` model of a server that answers. Raises any other error
    as ``ServerError``.
    """
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return StageFault.SILENT
    # Without a version it was unloaded, and whoever did that has not loaded it again.
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
    """The served model, from the ensemble's configuration. Raises ``ServerError`` when it does
    not say.
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
    """Reads the responses of one stream from the Triton at ``url``, up to `MAX_RESPONSES` of
    them.
    """

    def __init__(self, url: str):
        self._url = url
        self._responses = 0

    def read(self, result: Any, error: InferenceServerException | None) -> Progress | Video | None:
        """One response; ``None`` for one that says nothing.

        Raises what ended the stream without a video, ``MalformedAnswerError`` for what no stage of
        ours sends.
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
    """Whether nothing comes after this response."""
    return error is not None or result.get_response().parameters["triton_final_response"].bool_param


def translate(error: InferenceServerException, url: str) -> TritonVideoError:
    """The error a stage raised, back in its own class; what Triton puts before a stage's sentence
    is cut off.

    Errors of a stream carry no status unless the header ``triton_grpc_error`` is sent, which makes
    each of them end the stream. So the sentences themselves decide: they are ours.
    """
    message = answers.printable(
        re.sub(r"^(in ensemble '[^']*', )+", "", error.message() or str(error))
    )
    field, _, rest = message.partition(": ")
    if rest and (field in SamplingParams.model_fields or field == INPUT_REFERENCE.name.lower()):
        return InputError(field, rest)
    if re.match(r"job \S* was cancelled", message):
        return CancelledError(message)
    if message.startswith(INTERRUPTED):
        return ServerError(
            f"the Triton at {url} was interrupted: {message.removeprefix(INTERRUPTED)}"
        )
    if stub := re.search(r"stub process '(.+)_\d+_\d+' is not healthy", message, re.IGNORECASE):
        return DeadStage(stub[1], url)
    if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
        return ServerError(f"lost the Triton at {url}: {message}")
    return GenerationError(message)


def _input(tensor: Tensor, value: object) -> triton.InferInput:
    encoded = value.encode() if isinstance(value, str) else value
    array = np.array([encoded], dtype=DTYPES[tensor.datatype])
    item = triton.InferInput(tensor.name, [1], tensor.datatype)
    item.set_data_from_numpy(array)
    return item
