"""What goes over the wire to the ensemble and the ``control`` model, and what comes back, for both clients."""

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

from pipeline.errors import INTERRUPTED, CancelledError, GenerationError, InputError, ServerError, TritonVideoError
from pipeline.spec import ModelInfo, SamplingParams, VideoRequest
from pipeline.tensors import (
    ACTION,
    ANSWER,
    FRAMES,
    INPUT_REFERENCE,
    JOB_ID,
    MODEL_PARAMETER,
    PROGRESS,
    RESULT,
    RETURN_FRAMES,
    SAMPLING,
    SPRITESHEET,
    STAGE,
    THUMBNAIL,
    TOKEN,
    VIDEO,
    Tensor,
)

ENSEMBLE, CONTROL = "video", "control"
DTYPES = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}


@dataclass(frozen=True)
class Progress:
    """``step`` of ``total`` steps of ``stage`` ("denoise" or "decode") are done."""

    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Video:
    """The end of a stream: the MP4 file, its two WebP pictures, the request as it was made, and uint8 frames
    (T, H, W, 3) if asked for.
    """

    mp4: bytes
    thumbnail: bytes
    spritesheet: bytes
    request: VideoRequest
    frames: np.ndarray | None


class StageFault(Enum):
    """Why a stage does not say what it runs."""

    DEAD = "dead"
    """Its process has ended. Triton never starts it again by itself, and reports ready all the same."""
    SILENT = "silent"
    """Its process lives and does not answer."""


Stages = dict[str, set[str] | StageFault]
"""The ids of the jobs that each stage runs, or why it does not say. Without the stages that cannot be asked."""


class DeadStage(ServerError):  # noqa: N818 - what it is
    """The process of the model ``stage`` is gone; Triton goes on without it, and says that it is ready."""

    def __init__(self, stage: str, url: str):
        super().__init__(f"the stage {stage} of the Triton at {url} is dead")
        self.stage = stage


def request_inputs(params: SamplingParams, picture: bytes | None, return_frames: bool) -> list[triton.InferInput]:
    """``picture`` is the file of the reference picture."""
    given = [*((tensor, getattr(params, tensor.name.lower())) for tensor in SAMPLING), (INPUT_REFERENCE, picture)]
    inputs = [_input(tensor, value) for tensor, value in given if value is not None]
    return [*inputs, _input(RETURN_FRAMES, return_frames)]


def control_inputs(action: str, job_id: str, token: str | None) -> list[triton.InferInput]:
    """``token`` is the secret of a Triton that listens on TCP, see `pipeline.control_token`."""
    given = ((ACTION, action), (JOB_ID, job_id), (TOKEN, token))
    return [_input(tensor, value) for tensor, value in given if value is not None]


def control_answer(result: Any) -> dict[str, Any]:
    return json.loads(_array(result, ANSWER)[0])


def stages_of(answers: Mapping[str, Any]) -> Stages:
    """What the ``control`` model answers for each stage."""

    def stage(answer: Mapping[str, Any]) -> set[str] | StageFault:
        if "error" in answer:
            return StageFault.DEAD if answer.get("dead") else StageFault.SILENT
        return set(answer["jobs"])

    return {name: stage(answer) for name, answer in answers.items()}


def control_fault(error: InferenceServerException, url: str) -> StageFault:
    """What is wrong with the ``control`` model of a server that answers. Raises any other error as ``ServerError``."""
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return StageFault.SILENT
    if isinstance(translate(error, url), DeadStage):
        return StageFault.DEAD
    raise no_control(error, url)


def no_control(error: InferenceServerException, url: str) -> ServerError:
    return ServerError(f"the Triton at {url} took no control message: {error.message()}")


def model_info(config: Any) -> ModelInfo:
    """The served model, from the ensemble's configuration. Raises ``ServerError`` when it does not say."""
    try:
        return ModelInfo.model_validate_json(config.parameters[MODEL_PARAMETER].string_value)
    except ValueError as error:
        raise ServerError(
            f"the model {ENSEMBLE!r} of this Triton does not describe itself; export the checkpoint again",
            details=str(error),
        ) from None


def read_event(result: Any, error: InferenceServerException | None, url: str) -> Progress | Video | None:
    """One response of a stream; ``None`` for one that says nothing. Raises what ended the stream without a video."""
    if error is not None:
        raise translate(error, url)
    answer = result.get_response()
    names = {output.name for output in answer.outputs}
    if VIDEO.name in names:
        mp4, thumbnail, spritesheet, made = (_array(result, t)[0] for t in (VIDEO, THUMBNAIL, SPRITESHEET, RESULT))
        frames = _array(result, FRAMES) if FRAMES.name in names else None
        return Video(mp4, thumbnail, spritesheet, VideoRequest.model_validate_json(made), frames)
    if PROGRESS.name in names:
        step, total = _array(result, PROGRESS).tolist()
        return Progress(_array(result, STAGE)[0].decode(), step, total)
    if ends_stream(result, None):
        raise GenerationError("the server ended the stream without a video")
    return None


def ends_stream(result: Any, error: InferenceServerException | None) -> bool:
    """Whether nothing comes after this response."""
    return error is not None or result.get_response().parameters["triton_final_response"].bool_param


def translate(error: InferenceServerException, url: str) -> TritonVideoError:
    """The error a stage raised, back in its own class; what Triton puts before a stage's sentence is cut off.

    Errors of a stream carry no status unless the header ``triton_grpc_error`` is sent, which makes each of them end
    the stream. So the sentences themselves decide: they are ours.
    """
    message = re.sub(r"^(in ensemble '[^']*', )+", "", error.message() or str(error))
    field, _, rest = message.partition(": ")
    if rest and (field in SamplingParams.model_fields or field == INPUT_REFERENCE.name.lower()):
        return InputError(field, rest)
    if re.match(r"job \S* was cancelled", message):
        return CancelledError(message)
    if message.startswith(INTERRUPTED):
        return ServerError(f"the Triton at {url} was interrupted: {message.removeprefix(INTERRUPTED)}")
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


def _array(result: Any, tensor: Tensor) -> np.ndarray:
    array = result.as_numpy(tensor.name)
    if array is None:
        raise GenerationError(f"the server's answer lacks {tensor.name}")
    return array
