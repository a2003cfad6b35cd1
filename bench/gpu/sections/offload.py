"""Offload policies of two experts, through the rank process."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median_high
from typing import TYPE_CHECKING

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

if TYPE_CHECKING:
    from pipeline.settings import Offload

STEPS = 6
POLICIES: tuple[tuple[Offload, bool], ...] = (("none", False), ("expert", True), ("layer", True))


def run(work: Path, sizes: Sizes) -> None:
    """Report seconds of a step under each policy, and whether the latents are the same."""
    import numpy as np

    from bench.gpu.checkpoints import checkpoint, step_seconds, task
    from pipeline.ranks.group import RankGroup, Timeouts
    from pipeline.settings import StageSettings

    folder = checkpoint(work / "experts", sizes, two_experts=True)
    expected = None
    for policy, pinned in POLICIES:
        name = f"offload {policy}, pinned {pinned}"
        settings = StageSettings(
            checkpoint=str(folder), precision="bf16", offload=policy, pin_cpu_memory=pinned
        )
        times: list[float] = []
        with RankGroup(settings, Timeouts(startup=180, step=180)) as group:
            (made,) = group.run_batch([task(folder, sizes.short, STEPS, times)])
            taken = step_seconds(times, time.perf_counter())
        if isinstance(made, BaseException):
            report(name, "FAILED", note=str(made))
            continue
        expected = made if expected is None else expected
        note = f"slowest {max(taken[1:]):.2f}; same latents {np.array_equal(made, expected)}"
        report(f"{name}: a step", median_high(taken[1:]), "s", note)
