"""Likeness is measured as defined, and a level that loses adherence is reported."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.adherence import make_cases
from bench.lib.judge import Judgement
from bench.lib.likeness import psnr, ssim
from bench.quality import ALLOWED_LOSS, Clips, computed_steps, report
from pipeline.families.step_cache.table import Level
from tests.conftest import SHAPES

CLIP = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)


def test_equal_clips_have_infinite_psnr_and_ssim_one() -> None:
    assert psnr(CLIP, CLIP) == math.inf
    assert ssim(CLIP, CLIP) == pytest.approx(1)


def test_psnr_follows_from_the_mean_squared_error() -> None:
    grey, other = np.full((1, 8, 8, 3), 100, np.uint8), np.full((1, 8, 8, 3), 110, np.uint8)
    assert psnr(grey, other) == pytest.approx(10 * math.log10(255**2 / 100))


def test_ssim_of_one_window_is_the_formula() -> None:
    x, y = (CLIP[:1, :7, start : start + 7] for start in (0, 9))
    a, b = ((each.astype(float) @ [0.299, 0.587, 0.114]).ravel() for each in (x, y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * a.mean() * b.mean() + c1) * (2 * np.cov(a, b)[0, 1] + c2)
    expected /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (a.var(ddof=1) + b.var(ddof=1) + c2)
    assert ssim(x, y) == pytest.approx(expected)


def test_ssim_falls_with_noise() -> None:
    smooth = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[:, None], (1, 24, 24, 3))
    noisy = (smooth + np.random.default_rng(1).integers(0, 12, smooth.shape)).astype(np.uint8)
    worse = (smooth * 0.5 + CLIP[:1, :1, :1] * 0.5).astype(np.uint8)
    assert 1 > ssim(noisy, smooth) > ssim(worse, smooth)


def test_levels_of_the_bundled_model_compute_their_share() -> None:
    assert computed_steps(SHAPES, 20) == {"off": 20, "1.5x": 13, "2x": 10}


@pytest.mark.parametrize(("wrong", "met"), [(0, True), (1, True), (2, False)])
def test_level_that_loses_adherence_misses_its_goal(wrong: int, met: bool) -> None:
    cases = make_cases(24, 0, varied=False)
    right = [case.wanted for case in cases]
    lost = [Judgement(None, None, None, None)] * wrong + right[wrong:]
    made: dict[Level, Clips] = {
        level: Clips([CLIP] * 24, [2.0 if level == "off" else 1.0] * 24) for level in ALLOWED_LOSS
    }
    found: dict[Level, list[Judgement]] = {"off": right, "1.5x": right, "2x": lost}
    rows, all_met = report(cases, made, found, {"off": 20, "1.5x": 13, "2x": 10})
    assert all_met == met
    percent = f"{100 - wrong / 24 * 100:.1f}"
    assert rows[0][:6] == ["off", "20", "2.00", "1.00x", "-", "-"]
    assert rows[2][:5] == ["2x", "10", "1.00", "2.00x", "inf"]
    assert rows[2][6:9] == [percent] * 3
