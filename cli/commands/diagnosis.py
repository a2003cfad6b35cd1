"""The checks of ``triton-video doctor``; each is a function of probe results, for tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cli.commands import probes
from pipeline.byte_sizes import human_size
from pipeline.system.nvidia_driver import Driver, cuda_of_torch, find_driver, too_old

PACKAGES = (
    "triton-video",
    "nvidia-pytriton",
    "torch",
    "diffusers",
    "transformers",
    "onnxruntime",
    "fastapi",
)
SMALL_CACHE = 2 << 30  # less than an export of the smallest published checkpoint
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a temporary file
SMALL_SHARED_MEMORY = 64 << 20
SHARED_MEMORY_OF_NCCL = 1000 << 20  # NVIDIA's --shm-size=1g, of which some is in use
SMALL_MEMORY = 4 << 30


class State(Enum):
    """The result of a check; with FAILED a run on this machine fails."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and advice if there is a problem."""

    name: str
    state: State
    found: str
    advice: str = ""

    def described(self) -> dict[str, str]:
        """Return the content for JSON."""
        return {
            "name": self.name,
            "state": self.state.value,
            "found": self.found,
            "advice": self.advice,
        }


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Run all checks on this machine; each takes well under a second."""
    from pipeline.system.cache_folder import cache_folder
    from proxy.settings import HttpSettings

    cache, engines, gpus = cache_folder(), probes.engines(), probes.gpus()
    port = environment.get("TRITON_VIDEO_PORT") or str(HttpSettings.model_fields["port"].default)
    return [
        python(sys.version_info[:2]),
        numpy(_version("numpy")),
        packages({name: _version(name) for name in PACKAGES}),
        triton(
            probes.embedded_server(), engines, installed=_version("nvidia-pytriton") is not None
        ),
        gpu(gpus, cuda_of_torch(), find_driver()),
        flavours(probes.flavours(), gpus=bool(gpus)),
        containers(engines),
        memory(probes.memory_bytes()),
        cache_space(cache, probes.writable(cache), _free(cache)),
        shared_memory(_free(SHARED_MEMORY), gpus=bool(gpus)),
        listening(port, probes.port_problem(port)),
    ]


def python(found: tuple[int, ...]) -> Finding:
    """Check the Python version."""
    text = ".".join(map(str, found))
    if (3, 11) <= found < (3, 13):
        return Finding("python", State.OK, text)
    return Finding(
        "python",
        State.FAILED,
        text,
        "use Python 3.11 or 3.12: numpy below 2 has no wheels for later ones",
    )


def numpy(found: str | None) -> Finding:
    """Check the numpy version."""
    if found and int(found.partition(".")[0]) < 2:
        return Finding("numpy", State.OK, found)
    advice = (
        "pip install 'numpy<2': with numpy 2 the embedded Triton passes zeros, without an error"
    )
    return Finding("numpy", State.FAILED, found or "missing", advice)


def packages(found: Mapping[str, str | None]) -> Finding:
    """Check the installed packages; ``found`` maps each to its version or None."""
    text = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    missing = [name for name, version in found.items() if version is None]
    if not missing:
        return Finding("packages", State.OK, text)
    names = ", ".join(missing)
    advice = f"{names} missing: pip install 'triton-video[all]', unless Triton runs elsewhere"
    return Finding("packages", State.NOTE, text or "none", advice)


def triton(problem: str | None, engines: Mapping[str, str | None], *, installed: bool) -> Finding:
    """Check Triton; ``problem`` is why the embedded server cannot start, if it cannot.

    That is a failure only if it is ``installed``: otherwise Triton may run elsewhere.
    """
    if problem is None:
        return Finding("triton", State.OK, "embedded")
    usable = [engine for engine, broken in engines.items() if broken is None]
    if usable:
        return Finding(
            "triton", State.NOTE, "in a container only", f"{problem}; or --runtime {usable[0]}"
        )
    return Finding(
        "triton", State.FAILED if installed else State.NOTE, "none on this machine", problem
    )


def gpu(found: Sequence[str] | None, cuda: str | None, driver: Driver | None) -> Finding:
    """Check the GPUs; ``found`` has a line for each, and is None without a driver.

    ``cuda`` is the version that torch is built for: empty for a CPU build, None without torch.
    """
    if found:
        text = "; ".join(found)
        if cuda == "":
            advice = "torch is a build for the CPU: install one for CUDA"
            if driver:
                advice += f" {driver.cuda[0]}.{driver.cuda[1]} or older, which the driver supports"
            return Finding("gpu", State.FAILED, text, advice)
        if cuda and driver and (reason := too_old(driver, cuda)):
            return Finding("gpu", State.FAILED, text, reason)
        return Finding("gpu", State.OK, text)
    if found is None:
        advice = "without an NVIDIA driver only the bundled checkpoint is fast enough, on the CPU"
        return Finding("gpu", State.NOTE, "no driver", advice)
    return Finding(
        "gpu",
        State.NOTE,
        "a driver without a GPU",
        "run nvidia-smi for the reason",
    )


def flavours(found: Mapping[str, str | None], *, gpus: bool) -> Finding:
    """Check the flavours of the embedded server; ``found`` maps each to None, or to why it cannot
    be used. TensorRT is missed only where there is a GPU.
    """
    usable = ", ".join(flavour for flavour, problem in found.items() if problem is None)
    if gpus and (problem := found["tensorrt"]):
        return Finding("flavours", State.NOTE, usable, problem)
    return Finding("flavours", State.OK, usable)


def containers(found: Mapping[str, str | None]) -> Finding:
    """Check the container engines; ``found`` maps each to None, or to why it cannot be used."""
    usable = [engine for engine, problem in found.items() if problem is None]
    if usable:
        return Finding("containers", State.OK, ", ".join(usable))
    if not found:
        return Finding(
            "containers",
            State.NOTE,
            "no engine",
            "install docker or podman to run Triton in a container",
        )
    problems = "; ".join(f"{engine}: {problem}" for engine, problem in found.items())
    return Finding(
        "containers",
        State.NOTE,
        problems,
        "start the engine, or join the group that has access to it",
    )


def memory(found: int) -> Finding:
    """Check the memory that is available, in bytes."""
    text = f"{human_size(found)} for this process"
    if found >= SMALL_MEMORY:
        return Finding("memory", State.OK, text)
    return Finding(
        "memory",
        State.NOTE,
        text,
        "exporting and serving the bundled checkpoint takes about 4 GB",
    )


def cache_space(cache: Path, problem: str | None, free: int) -> Finding:
    """Check the cache folder; ``problem`` is why it cannot be written, if it cannot."""
    if problem:
        advice = f"{problem}: set TRITON_VIDEO_CACHE to another folder"
        return Finding("cache", State.FAILED, str(cache), advice)
    text = f"{human_size(free)} free for {cache}"
    if free >= SMALL_CACHE:
        return Finding("cache", State.OK, text)
    return Finding(
        "cache",
        State.NOTE,
        text,
        "free disk space, or set TRITON_VIDEO_CACHE to a folder on another disk",
    )


def shared_memory(free: int, *, gpus: bool) -> Finding:
    """Check the free shared memory, in bytes; NCCL needs more than the stages do."""
    text = f"{human_size(free)} free in /dev/shm"
    if free > (SHARED_MEMORY_OF_NCCL if gpus else SMALL_SHARED_MEMORY):
        return Finding("shared memory", State.OK, text)
    size = "2g" if gpus else "1g"
    return Finding(
        "shared memory", State.NOTE, text, f"start the container with --shm-size={size} or more"
    )


def listening(port: str, problem: str | None) -> Finding:
    """Check the port of `serve`; ``problem`` is why it cannot be used, if it cannot."""
    if problem is None:
        return Finding("port", State.OK, f"{port} is free")
    return Finding(
        "port",
        State.NOTE,
        f"{port}: {problem}",
        "serve with another --port, or stop the program that uses it",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _free(folder: Path) -> int:
    """Return the free bytes on the disk of ``folder``, which may not exist yet."""
    there = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    return shutil.disk_usage(there).free
