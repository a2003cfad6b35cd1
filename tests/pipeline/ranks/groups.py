"""Helpers for groups of rank processes: their settings, single requests, process ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.families import VideoRequest
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup, Task
from pipeline.ranks.messages import Setup
from pipeline.settings import StageSettings

ALONE = Layout()


def settings(checkpoint: Path, layout: Layout = ALONE, **values: Any) -> StageSettings:
    """Return settings of ranks with one thread each."""
    return StageSettings(
        checkpoint=str(checkpoint),
        threads=1,
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        guidance_branches=layout.branches,
        **values,
    )


def single_rank(checkpoint: Path) -> Setup:
    """Return the setup of a single rank, which needs no rendezvous."""
    return Setup(settings=settings(checkpoint), rank=0, store="none")


def run_one(
    group: RankGroup,
    request: VideoRequest,
    arrays: Mapping[str, np.ndarray],
    before_step: Callable[[int], None] = lambda step: None,
) -> np.ndarray:
    """Return the latents of a batch of one request, or raise its error."""
    (outcome,) = group.run_batch([Task(request, arrays, before_step)])
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def pids(group: RankGroup) -> list[int]:
    """Return the process ids of the ranks, in the order of their numbers."""
    found = [rank.process.pid for rank in group._ranks]
    return [pid for pid in found if pid is not None]
