"""The number of CPUs that this process may use, which in a container is less than the machine's."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus() -> int:
    """Return the number of CPUs of this process's affinity, or its CPU quota if that is less.

    A quota is rounded up: 1.5 CPUs are 2.
    """
    cpus = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return cpus if quota is None else min(cpus, max(1, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPUs that the control groups of this process allow, or None if they set no limit.

    ``root`` is the folder that contains ``proc`` and ``sys``.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each control group of this process and of the groups around it."""
    for folder in _groups(root):
        # A group without a limit has the value "max" (version 2) or -1 (version 1).
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text() for part in _PARTS)
            if int(quota) > 0:
                yield int(quota) / int(period)


_PARTS = ("quota", "period")


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups.

    A container may show a path that its own mount does not have; its group is then the mount.
    """
    mount = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                base = mount / "cpu" if controllers else mount
                inside = PurePosixPath(path.lstrip("/"))
                yield from (base / group for group in (inside, *inside.parents))
