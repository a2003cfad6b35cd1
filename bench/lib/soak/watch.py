"""What a server takes while it runs, and what is left of it when it has ended."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is looked at, not written to


@dataclass
class Watch:
    """Samples the memory of a server and of everything that it started, in MiB by seconds."""

    process: psutil.Process
    proxy: list[tuple[float, float]] = field(default_factory=list)
    triton: list[tuple[float, float]] = field(default_factory=list)
    descriptors: list[tuple[float, float]] = field(default_factory=list)
    seen: set[psutil.Process] = field(default_factory=set)
    regions: set[str] = field(default_factory=lambda: shared_memory())

    def sample(self, seconds: float) -> None:
        children = self.process.children(recursive=True)
        self.seen.update(children)
        self.proxy.append((seconds, _mib(self.process)))
        self.triton.append((seconds, sum(map(_mib, children))))
        self.descriptors.append((seconds, self.process.num_fds()))

    def left_processes(self) -> list[str]:
        """Those that the server started and that outlive it."""
        return [f"{process.pid}" for process in self.seen if process.is_running()]

    def left_regions(self) -> list[str]:
        """Shared memory that was created meanwhile and that no process uses: others may run on
        this machine.
        """
        new = shared_memory() - self.regions
        return sorted(new - _mapped(new)) if new else []


def slope_per_minute(samples: list[tuple[float, float]], warm_up: float = 0.25) -> float:
    """Growth by least squares, without the share ``warm_up`` at the beginning."""
    kept = samples[int(len(samples) * warm_up) :]
    if len(kept) < 2:
        return 0.0
    mean_x = sum(x for x, _ in kept) / len(kept)
    mean_y = sum(y for _, y in kept) / len(kept)
    spread = sum((x - mean_x) ** 2 for x, _ in kept)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in kept) / spread


def shared_memory() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()}


def _mapped(names: set[str]) -> set[str]:
    used: set[str] = set()
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
            used.update(name for name in names if f"{SHARED_MEMORY}/{name}" in maps)
    return used


def _mib(process: psutil.Process) -> float:
    """Memory that is the process's own share: pages that several share count in parts."""
    with suppress(psutil.Error, subprocess.SubprocessError):
        return process.memory_full_info().pss / 2**20
    return 0.0
