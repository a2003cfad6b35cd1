"""Read Triton's responses within limits: the server may be remote and untrusted.

Each function takes a response as protobuf and raises `MalformedAnswerError` for one that no stage
of triton-video sends. Tensors are read from their raw bytes: tritonclient's own reader makes a
Python object of each element before any limit is checked.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipeline.ensemble.tensors import ANSWER, FRAMES, PREVIEW, PROGRESS, RESULT, STAGE, Tensor
from pipeline.errors import GenerationError
from pipeline.families import SamplingParams, VideoRequest

STAGES = ("denoise", "decode")
MAX_PROGRESS_BYTES = 4096  # of a whole response that carries no video
MAX_STEPS = 1_000_000
MAX_PREVIEW_BYTES = 32 << 20  # of a thumbnail or a spritesheet
MAX_SMALL_BYTES, MAX_SMALL_SIDE = 32 << 10, 1024  # of an image of an unfinished video
MAX_RESULT_BYTES = 64 << 10
MAX_CONTROL_BYTES = 4 << 20
MAX_CONTROL_STAGES = 64
MAX_SENTENCE = 2000  # characters of an error
_LENGTH = struct.Struct("<I")


class MalformedAnswerError(GenerationError):
    """Triton sent a response that no stage of triton-video sends; its stream may never end."""


def names(answer: Any) -> set[str]:
    """Return the names of the tensors in a response."""
    return {output.name for output in answer.outputs}


def progress(answer: Any) -> tuple[str, int, int]:
    """Return the stage, the number of finished steps and the total number of steps."""
    if answer.ByteSize() > MAX_PROGRESS_BYTES:
        raise MalformedAnswerError(f"Triton sent progress of more than {MAX_PROGRESS_BYTES} bytes")
    step, total = struct.unpack("<2i", _content(answer, PROGRESS, (2,), 8))
    stage = text(answer, STAGE, MAX_PROGRESS_BYTES).decode(errors="replace")
    if stage not in STAGES or not 0 <= step <= total <= MAX_STEPS:
        raise MalformedAnswerError(
            f"Triton sent impossible progress: {step} of {total} in {printable(stage)!r}"
        )
    return stage, step, total


def text(answer: Any, tensor: Tensor, limit: int) -> bytes:
    """Return the single element of a BYTES tensor of shape [1], of at most ``limit`` bytes."""
    content = _content(answer, tensor, (1,))
    if len(content) > limit + _LENGTH.size:
        raise MalformedAnswerError(f"Triton sent {tensor.name} of more than {limit} bytes")
    if (
        len(content) < _LENGTH.size
        or _LENGTH.unpack_from(content)[0] != len(content) - _LENGTH.size
    ):
        raise MalformedAnswerError(f"Triton sent {tensor.name} with a wrong length")
    return content[_LENGTH.size :]


def mp4(answer: Any, tensor: Tensor) -> bytes:
    """Return the MP4 file in a BYTES tensor; only gRPC's message limit bounds its size."""
    return _file(text(answer, tensor, 1 << 31), tensor, 4, b"ftyp")


def webp(answer: Any, tensor: Tensor, limit: int = MAX_PREVIEW_BYTES) -> bytes:
    """Return the WebP file in a BYTES tensor, of at most ``limit`` bytes."""
    return _file(text(answer, tensor, limit), tensor, 8, b"WEBP")


def preview(answer: Any) -> bytes:
    """Return the image of a video that is being denoised: a lossy WebP file (RFC 9649) of at most
    ``MAX_SMALL_BYTES`` bytes and ``MAX_SMALL_SIDE`` pixels per side.
    """
    if answer.ByteSize() > MAX_SMALL_BYTES + MAX_PROGRESS_BYTES:
        raise MalformedAnswerError("Triton sent a large response with a preview")
    file = webp(answer, PREVIEW, MAX_SMALL_BYTES)
    # A small file may decode to 16383 x 16383 pixels. The sizes follow the start code of a frame.
    start, width, height = file[23:26], *struct.unpack("<2H", file[26:30].ljust(4, b"\xff"))
    if file[12:16] != b"VP8 " or start != b"\x9d\x01\x2a" or max(width, height) > MAX_SMALL_SIDE:
        raise MalformedAnswerError(f"Triton sent a {PREVIEW.name} of another format or size")
    return file


def request(answer: Any) -> VideoRequest:
    """Return the completed request, each value within the bounds of `SamplingParams`."""
    try:
        made = VideoRequest.model_validate_json(text(answer, RESULT, MAX_RESULT_BYTES))
        SamplingParams(prompt="-", **made.sampling())
    except ValidationError as error:
        raise MalformedAnswerError(
            "Triton sent a RESULT that is no request", details=str(error)
        ) from None
    return made


def frames(answer: Any, made: VideoRequest) -> np.ndarray:
    """Return the frames of the video: uint8 (T, H, W, 3), with the size of the request ``made``."""
    shape = (made.total_frames, made.height, made.width, 3)
    return np.frombuffer(_content(answer, FRAMES, shape, int(np.prod(shape))), np.uint8).reshape(
        shape
    )


def control(answer: Any) -> dict[str, dict[str, Any]]:
    """Return the answer of each stage to a message of the ``control`` model."""
    try:
        stages = json.loads(text(answer, ANSWER, MAX_CONTROL_BYTES))
    except (ValueError, RecursionError):
        stages = None
    if (
        not isinstance(stages, dict)
        or len(stages) > MAX_CONTROL_STAGES
        or not all(isinstance(each, dict) for each in stages.values())
    ):
        raise MalformedAnswerError("Triton's control model sent an answer that is none")
    return stages


def printable(sentence: str) -> str:
    """Return untrusted text as one line for a log or a terminal.

    It is cut to ``MAX_SENTENCE`` characters; a space replaces each control character.
    """
    short = sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:MAX_SENTENCE]}..."
    return "".join(character if character.isprintable() else " " for character in short)


def _content(answer: Any, tensor: Tensor, shape: tuple[int, ...], size: int | None = None) -> bytes:
    """Return the bytes of a tensor.

    It must have ``shape``, the data type that ``tensor`` declares and, if set, ``size`` bytes.
    """
    for index, output in enumerate(answer.outputs):
        if output.name != tensor.name:
            continue
        if output.datatype != tensor.datatype or tuple(output.shape) != shape:
            break
        content = (
            answer.raw_output_contents[index] if index < len(answer.raw_output_contents) else b""
        )
        if size is not None and len(content) != size:
            break
        return content
    else:
        raise MalformedAnswerError(f"the server's answer lacks {tensor.name}")
    raise MalformedAnswerError(f"Triton sent {tensor.name} with a wrong type, shape or size")


def _file(data: bytes, tensor: Tensor, offset: int, mark: bytes) -> bytes:
    if data[offset : offset + len(mark)] != mark:
        raise MalformedAnswerError(f"Triton sent a {tensor.name} of another format")
    return data
