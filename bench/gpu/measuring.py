"""Seconds and bytes on the device of a section: the GPU, or the CPU where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median_high

import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def synchronize() -> None:
    """Wait for everything that the GPU was asked for."""
    if GPU:
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], repeat: int = 3, warm_ups: int = 1) -> float:
    """Return the median seconds of ``run``, after ``warm_ups`` runs that do not count."""
    for _ in range(warm_ups):
        run()
    synchronize()
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        synchronize()
        taken.append(time.perf_counter() - started)
    return median_high(taken)


def reset_peak() -> None:
    """Start the peak of `peak_gb` anew."""
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float:
    """Most gigabytes that torch held on the GPU since `reset_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if GPU else 0.0


def first_line(error: BaseException) -> str:
    """The start of an error's message, short enough for a table."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
