"""The memory plan agrees with the measured peak of `generate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.lib.planned import run
from tests.conftest import SHAPES

CASES = {
    "shapes": (256, 17, ["--encoder-engine", "graph", "--vae-engine", "chunked"]),
    "wan2.2-ti2v": (128, 17, ["--encoder-engine", "torch", "--vae-engine", "torch"]),
    "hunyuan-video": (256, 17, ["--encoder-engine", "torch", "--vae-engine", "torch"]),
}
"""Side and frames of each family's video, and its engines."""


@pytest.mark.parametrize("family", CASES)
def test_the_plan_is_within_15_percent_of_the_peak(
    family: str,
    build_family: Callable[[str], Path],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(cache))
    side, frames, engines = CASES[family]
    flags = ["--width", str(side), "--height", str(side), "--num-frames", str(frames)]
    flags += ["--num-inference-steps", "2", "--threads", "1", *engines]
    outcome = run(SHAPES if family == "shapes" else build_family(family), flags)
    assert 0.85 <= outcome.ratio <= 1.15, (outcome.planned, outcome.peaks)
