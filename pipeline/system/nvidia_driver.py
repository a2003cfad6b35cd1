"""What NVIDIA's driver on this machine supports, and why torch cannot use its GPUs."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_DRIVER = {11: "450", 12: "525", 13: "580"}
"""The oldest driver for each major version of CUDA, by NVIDIA's table of minor version
compatibility (CUDA Toolkit release notes).
"""
ON_CPU = "set CUDA_VISIBLE_DEVICES= to run on the CPU"


@dataclass(frozen=True)
class Driver:
    """The version of a driver, and the newest CUDA that it supports."""

    version: str
    cuda: tuple[int, int]


@contextmanager
def open_nvml(load: Callable[[str], Any] = ctypes.CDLL) -> Iterator[Any | None]:
    """Open NVIDIA's management library (NVML), which comes with the driver; None without it."""
    try:
        nvml = load("libnvidia-ml.so.1")
    except OSError:
        nvml = None
    if nvml is None or nvml.nvmlInit_v2():
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def find_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver | None:
    """Return the driver as NVML reports it, or None if there is none."""
    with open_nvml(load) as nvml:
        if nvml is None:
            return None
        version, cuda = ctypes.create_string_buffer(80), ctypes.c_int()
        failed = nvml.nvmlSystemGetDriverVersion(version, ctypes.c_uint(len(version)))
        if failed or nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)):
            return None
        return Driver(version.value.decode(), (cuda.value // 1000, cuda.value % 1000 // 10))


def cuda_of_torch() -> str | None:
    """Return the CUDA version that the installed torch is built for, without importing it.

    Empty for a build without CUDA; None if torch is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b[^=]*= *'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else ""


def too_old(driver: Driver, cuda: str) -> str | None:
    """Return why ``driver`` cannot run a torch for ``cuda``, and what helps; None if it can."""
    major = int(cuda.partition(".")[0])
    if driver.cuda[0] >= major:
        return None
    first = FIRST_DRIVER.get(major)
    return (
        f"the driver {driver.version} is too old: torch is built for CUDA {cuda}, which needs "
        f"{f'driver {first} or newer' if first else 'a newer one'}; update the driver, install a "
        f"torch for CUDA {driver.cuda[0]}, or {ON_CPU}"
    )


def unusable(cuda: str, driver: Driver | None) -> str:
    """Return why a torch for ``cuda`` cannot use a GPU of this machine, and what helps."""
    reason = too_old(driver, cuda) if driver else None
    return reason or (
        f"torch for CUDA {cuda} cannot use it; `python -c 'import torch; torch.cuda.init()'` "
        f"prints the reason; or {ON_CPU}"
    )
