"""Connects Triton's python backend to the stages: reads tensors, sends responses and maps errors to
Triton's status codes.

Runs only inside a python stub: ``triton_python_backend_utils`` exists nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from pipeline.ensemble.tensors import (
    ESTIMATE,
    FILES,
    IMAGE,
    LAST_IMAGE,
    PROGRESS,
    REQUEST,
    RETURN_FRAMES,
    SAMPLING,
    SOURCE,
    STAGE,
    Tensor,
)
from pipeline.errors import INTERRUPTED, CancelledError, InputError, ServerError, TritonVideoError
from pipeline.families import Inputs, VideoRequest
from pipeline.system import hidden_devices
from pipeline.system.child_environment import child_environment
from pipeline.system.native_paths import path_text
from pipeline.triton.control import ControlListener, JobRegistry, stage_address
from pipeline.triton.shared_memory import close_to_others

# This runs at import time because each model.py imports this module first, and its stage, with ONNX
# Runtime, right after it. The server's environment does not reach every stub: a stock tritonserver
# has its own.
os.environ.update(child_environment(os.environ))
hidden_devices.restore(os.environ)


def version_folder(args: dict[str, str]) -> Path:
    """Return the folder of the model version being loaded, from the arguments of ``initialize``."""
    return Path(args["model_repository"]) / args["model_version"]


def array(request: Any, name: str) -> np.ndarray:
    """Return an input that the model's config requires.

    Triton rejects a request without it before the stage sees it. Raises ``InputError`` if it is
    missing.
    """
    given = optional_array(request, name)
    if given is None:
        raise InputError(name.lower(), "is missing")
    return given


def optional_array(request: Any, name: str) -> np.ndarray | None:
    """Return an input as an array, or ``None`` if the request does not have it."""
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def optional_text(request: Any, name: str) -> str | None:
    """Return the first element of a BYTES input as text, or ``None`` if it is omitted or empty."""
    given = optional_array(request, name)
    return bytes(given[0]).decode(errors="replace") if given is not None and len(given) else None


def video_request(request: Any) -> VideoRequest:
    return VideoRequest.model_validate_json(array(request, REQUEST.name)[0])


def sampling_values(request: Any) -> tuple[dict[str, object], bool]:
    """Return the sampling parameters in the request by field name, and whether the caller requested
    raw frames.

    Raises ``InputError`` for a tensor of the wrong shape or text that is not UTF-8.
    """
    values: dict[str, object] = {}
    for tensor in SAMPLING:
        given = optional_array(request, tensor.name)
        if given is not None:
            values[tensor.name.lower()] = _scalar(tensor, given)
    frames = optional_array(request, RETURN_FRAMES.name)
    return values, bool(_scalar(RETURN_FRAMES, frames)) if frames is not None else False


def input_files(request: Any) -> Inputs:
    """Return the files of a request. Raises ``InputError`` for a tensor of the wrong shape."""
    given = ((tensor, optional_array(request, tensor.name)) for tensor in FILES)
    return Inputs(
        *(None if file is None else bytes(_single(tensor, file)) for tensor, file in given)
    )


def image_file(request: Any) -> bytes | None:
    """Return the file of the reference image, for repositories that were rendered before a request
    had other files.
    """
    return input_files(request).image


def clip_arrays(request: Any) -> dict[str, np.ndarray]:
    """Return what `pipeline.decoders.clip.chunks` makes a clip of, as far as the request has it."""
    names = (IMAGE.name, LAST_IMAGE.name)
    given = {name: optional_array(request, name) for name in names}
    video = source(request)
    given[SOURCE.name] = None if video is None else np.frombuffer(video, np.uint8)
    return {name: array for name, array in given.items() if array is not None}


def source(request: Any) -> bytes | None:
    """Return the file of the video to edit or to extend, or ``None`` if the request has none."""
    given = optional_array(request, SOURCE.name)
    return None if given is None else bytes(_single(SOURCE, given))


def _scalar(tensor: Tensor, given: np.ndarray) -> object:
    value = _single(tensor, given)
    if not isinstance(value, bytes):
        return value.item()
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(tensor.name.lower(), "should be UTF-8 text") from None


def _single(tensor: Tensor, given: np.ndarray) -> Any:
    if given.shape != (1,):
        raise InputError(tensor.name.lower(), f"shape {list(given.shape)} should be [1]")
    return given[0]


def response(outputs: Iterable[tuple[str, np.ndarray]]) -> Any:
    return pb.InferenceResponse([pb.Tensor(name, value) for name, value in outputs])


def text(value: str | bytes) -> np.ndarray:
    """Return one string or byte string as a Triton BYTES tensor of shape [1]."""
    return np.array([value], dtype=np.object_)


def progress(stage: str, step: int, total: int, estimate: np.ndarray | None = None) -> Any:
    """Return a response of progress, with an ``estimate`` for `pipeline.stages.preview`."""
    outputs = [
        (STAGE.name, text(stage)),
        (PROGRESS.name, np.array([step, total], dtype=np.int32)),
    ]
    return response(outputs if estimate is None else [*outputs, (ESTIMATE.name, estimate)])


def failure(error: TritonVideoError) -> Any:
    """Return a response that carries the error's message under the Triton status for its type."""
    code, sentence = pb.TritonError.INTERNAL, str(error)
    if isinstance(error, InputError):
        code = pb.TritonError.INVALID_ARG
    elif isinstance(error, CancelledError):
        code = pb.TritonError.CANCELLED
    elif isinstance(error, ServerError):
        code, sentence = pb.TritonError.UNAVAILABLE, f"{INTERRUPTED}{sentence}"
    return pb.InferenceResponse(error=pb.TritonError(path_text(sentence), code))


class Stream:
    """Sends the responses of one decoupled request; always ends the stream, even if the stage
    fails.

    Use it as a context manager: a ``TritonVideoError`` inside becomes the request's error. Any
    other exception is a bug: the request fails with its type and message, and the error is logged.
    """

    def __init__(self, request: Any):
        self._sender = request.get_response_sender()

    def send(self, message: Any) -> None:
        self._sender.send(message)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        final = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if error is None:
            self._sender.send(flags=final)
            return False
        shown = (
            error
            if isinstance(error, TritonVideoError)
            else TritonVideoError(f"{type(error).__name__}: {error}")
        )
        self._sender.send(failure(shown), flags=final)
        if not isinstance(error, TritonVideoError):
            pb.Logger.log_error(f"a request failed: {shown}")
        return isinstance(error, Exception)


class Jobs:
    """The jobs of this stage, reachable from the ``control`` model and the process that started the
    server.

    Every stage has one, even if it tracks no jobs: an answer shows that the stage is alive. The
    parent of the stub is the server.
    """

    def __init__(self, stage: str):
        close_to_others()
        self.registry = JobRegistry()
        self._listener = ControlListener(stage_address(stage, os.getppid()), self.registry)

    def close(self) -> None:
        self._listener.close()
