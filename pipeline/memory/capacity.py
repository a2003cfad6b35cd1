"""Measure the free memory of this machine, within a container's limits, and of each GPU."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ServerError
from pipeline.system.nvidia_driver import cuda_of_torch, open_nvml

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
BUS_ORDER = "PCI_BUS_ID"
UNLIMITED = 1 << 60  # cgroups v1 reports no limit as a number near 2**63


@dataclass(frozen=True)
class Capacity:
    """Free bytes of the host, and of each GPU that torch would use, in torch's order.

    None means unknown.
    """

    host: int | None
    gpus: tuple[int | None, ...] = ()

    @classmethod
    def measure(cls, *, in_container: bool = False) -> Capacity:
        """Measure the free memory for stages that run on this machine.

        ``in_container``: they run in a container, which has its own torch. Otherwise raises
        ``ServerError`` if there is a GPU that the installed torch cannot use.
        """
        gpus = gpus_free(os.environ)
        if gpus and not in_container and cuda_of_torch() == "":
            raise ServerError(
                "this machine has a GPU, and torch is a build for the CPU: install one for CUDA, "
                "or set CUDA_VISIBLE_DEVICES= to run on the CPU"
            )
        return cls(host_free(), gpus)


def host_free(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the host's free bytes; None when unknown.

    That is the kernel's estimate of the memory available without swapping, or what the container's
    limit leaves, if less.
    """
    found = [
        free
        for free in (_available(proc), _left_in(cgroup), _left_in(_own(proc, cgroup)))
        if free is not None
    ]
    return min(found, default=None)


def gpus_free(
    environment: Mapping[str, str], load: Callable[[str], Any] = ctypes.CDLL
) -> tuple[int | None, ...]:
    """Return the free bytes of each GPU that ``CUDA_VISIBLE_DEVICES`` allows; None means unknown.

    NVIDIA's management library (NVML) reports them, in the order of the bus, which our processes
    use too (`pipeline.system.child_environment`). If ``CUDA_DEVICE_ORDER`` asks for another order,
    each GPU counts as the smallest. NVML comes with the driver; without a driver the result is
    empty.
    """
    with open_nvml(load) as nvml:
        handles = _visible(nvml, environment) if nvml else ()
        free = tuple(_free(nvml, handle) for handle in handles)
    if environment.get("CUDA_DEVICE_ORDER", BUS_ORDER) == BUS_ORDER:
        return free
    known = [size for size in free if size is not None]
    return (min(known) if len(known) == len(free) > 0 else None,) * len(free)


class _Memory(ctypes.Structure):
    """NVML's struct ``nvmlMemory_t``."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _visible(nvml: Any, environment: Mapping[str, str]) -> Sequence[ctypes.c_void_p]:
    """Return handles of the GPUs that ``CUDA_VISIBLE_DEVICES`` lists, by number or UUID.

    The list ends at the first invalid entry, as in CUDA.
    """
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    named = environment.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count.value)] if named is None else named.split(",")
    handles: list[ctypes.c_void_p] = []
    for name in names:
        handle = ctypes.c_void_p()
        if name.strip().isdecimal():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(
                ctypes.c_uint(int(name)), ctypes.byref(handle)
            )
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(name.strip().encode(), ctypes.byref(handle))
        if failed:
            break
        handles.append(handle)
    return handles


def _free(nvml: Any, handle: ctypes.c_void_p) -> int | None:
    memory = _Memory()
    return None if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) else int(memory.free)


def _available(proc: Path) -> int | None:
    lines = _text(proc / "meminfo").splitlines()
    return next(
        (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None
    )


def _own(proc: Path, cgroup: Path) -> Path:
    """Return the cgroup folder of this process; the root folder if it has no separate group.

    Inside a container it usually has none.
    """
    line = next(
        (line for line in _text(proc / "self" / "cgroup").splitlines() if line.startswith("0::")),
        "0::/",
    )
    return cgroup / line[3:].strip("/")


def _left_in(group: Path) -> int | None:
    """Return the free bytes below a group's limit, for cgroups v1 and v2; None without a limit.

    Cached files count as free, because the kernel reclaims them.
    """
    for limit, usage in (
        (group / "memory.max", group / "memory.current"),
        (group / "memory" / "memory.limit_in_bytes", group / "memory" / "memory.usage_in_bytes"),
    ):
        most, used = _text(limit).strip(), _text(usage).strip()
        if most.isdecimal() and used.isdecimal() and int(most) < UNLIMITED:
            statistics = _text(usage.with_name("memory.stat")).splitlines()
            cached = next(
                (int(line.split()[1]) for line in statistics if line.startswith("inactive_file ")),
                0,
            )
            return max(0, int(most) - int(used) + cached)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
