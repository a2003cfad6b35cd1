"""Compute capabilities that engines can be compiled for, and the libraries that compile."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CheckpointError, InputError
from pipeline.sessions.engine_record import Library

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""The compute capabilities that tensorrt-rtx compiles for without a GPU: Turing, A100, RTX 30,
RTX 40, RTX 50, GB10.
"""

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h


def require_targets(targets: Sequence[str]) -> None:
    """Raise ``InputError`` for a target that cannot be checked, or if the package that checks is
    not installed.
    """
    for target in targets:
        if target not in TARGETS:
            raise InputError(
                "check",
                f"{target} is not known; known are {', '.join(TARGETS)}. For H100 and B200 (sm90, "
                "sm100) check sm89 and sm120, which share the rules, and build on the GPU machine",
            )
    if targets and not is_installed("tensorrt_rtx"):
        raise InputError(
            "check", "the package tensorrt-rtx is missing; install triton-video[check]"
        )


def require_file(onnx: Path) -> None:
    """Raise ``CheckpointError`` if the graph does not exist; TensorRT's own message would be
    unclear.
    """
    if not onnx.is_file():
        raise CheckpointError(f"{onnx} is missing; export the checkpoint again")


def is_installed(library: Library) -> bool:
    return importlib.util.find_spec(library) is not None


def installed_version(library: Library) -> str | None:
    """Return the version from the package's metadata: an import would load gigabytes."""
    try:
        return importlib.metadata.version(library.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return None


def gpu_target() -> str | None:
    """Return the compute capability of the first GPU, such as ``sm90``, or None if there is no GPU
    or no driver.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    if (found := _first_gpu()) is None:
        return None
    cuda, device = found
    for attribute, value in ((_MAJOR, major), (_MINOR, minor)):
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"sm{major.value}{minor.value}"


def gpu_name() -> str | None:
    """Return the name of the first GPU, or None: GPUs of one compute capability differ in speed and
    memory, and the builder chooses kernels by both.
    """
    name = ctypes.create_string_buffer(256)
    if (found := _first_gpu()) is None:
        return None
    cuda, device = found
    return None if cuda.cuDeviceGetName(name, len(name), device) else name.value.decode()


def _first_gpu() -> tuple[ctypes.CDLL, ctypes.c_int] | None:
    """Return the driver and its handle of the first GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    return cuda, device
