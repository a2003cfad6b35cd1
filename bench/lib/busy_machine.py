"""Conditions of a machine: other programs on all cores, or a quota of CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 100_000


@contextmanager
def control_group(quota: float | None, root: Path = CPU_GROUPS) -> Iterator[None]:
    """Put this process, and those that it starts in the block, into a new control group.

    ``quota`` is in CPUs; None sets no limit. ``root`` is the folder of the CPU controller of
    version 1. Raises ``OSError`` where this process may not make one.
    """
    group = root / f"triton-video-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        limit = -1 if quota is None else round(quota * PERIOD_US)
        (group / "cpu.cfs_quota_us").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Run ``count`` programs that compute without pause for as long as the block runs."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
