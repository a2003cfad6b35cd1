"""The environment of the processes that compute: stages, ranks and exports."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from pipeline.errors import OutputError
from pipeline.system.cache_folder import COMPILED, cache_folder
from pipeline.system.cpus import available_cpus, cpu_quota
from pipeline.system.telemetry import offline

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that say how long threads of OpenMP spin. If one is set, the others keep their
defaults.
"""
SPIN_COUNT = "1000"
"""Turns of the loop in which a thread of GNU's OpenMP waits for work before it sleeps.

By default threads spin for milliseconds, which on a busy machine they take from those that compute.
"""
ALLOCATORS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Variables of PyTorch's memory allocator; the second is the older name and takes precedence."""


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of ``environment`` for a child that computes; its own values take precedence.

    OpenMP counts the CPUs of the process's affinity, but knows no quota. PyTorch's allocator on a
    GPU keeps segments that can grow, because those of fixed sizes fragment when sizes change. CUDA
    numbers GPUs by their bus, as the driver's tools and the memory plan do, not by their speed.
    torch.export and torch.compile keep files in this user's cache. Their default is a folder in the
    directory for temporary files, whose name any user can take.
    """
    child = offline(environment)
    with contextlib.suppress(OutputError):  # a user without a home folder
        child.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / COMPILED))
    child.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if not any(child.get(name) for name in WAITING):
        child["GOMP_SPINCOUNT"] = SPIN_COUNT
    if cpu_quota() is not None and not child.get("OMP_NUM_THREADS"):
        child["OMP_NUM_THREADS"] = str(available_cpus())
    if not any(child.get(name) for name in ALLOCATORS):
        child["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    return child
