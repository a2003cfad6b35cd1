"""Likeness is measured as defined, and a setting that loses adherence is reported."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.adherence import make_cases
from bench.lib.judge import Judgement
from bench.lib.likeness import psnr, ssim
from bench.quality import EXACT, SETTINGS, Clips, Setting, computed_steps, report
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.lora import LoraFile, LoraPreset, LoraUse
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


def test_settings_compute_their_share_of_the_steps() -> None:
    case, checkpoint = make_cases(1, 0, varied=False)[0], Checkpoint.open(SHAPES)
    found = {
        name: computed_steps(checkpoint, each.params(case, 20)) for name, each in SETTINGS.items()
    }
    assert found == dict.fromkeys(SETTINGS, 20) | {"step cache 1.5x": 13, "step cache 2x": 10}


def test_lora_brings_its_number_of_steps() -> None:
    lora = LoraFile(name="fast", path="/x", preset=LoraPreset(num_inference_steps=4))
    params = Setting(lora=lora).params(make_cases(1, 0, varied=False)[0], 20)
    assert params.num_inference_steps == 4
    assert params.lora == (LoraUse(name="fast"),)


@pytest.mark.parametrize(("wrong", "met"), [(0, True), (1, True), (2, False)])
def test_setting_that_loses_adherence_misses_its_goal(wrong: int, met: bool) -> None:
    settings = SETTINGS | {"LoRA": Setting(allowed_loss=None)}
    cases = make_cases(24, 0, varied=False)
    right = [case.wanted for case in cases]
    lost = [Judgement(None, None, None, None)] * wrong + right[wrong:]
    made = {name: Clips([CLIP] * 24, [2.0 if name == EXACT else 1.0] * 24) for name in settings}
    found = dict.fromkeys(settings, right) | {
        "step cache 2x": lost, "LoRA": [Judgement(None, None, None, None)] * 24
    }  # fmt: skip
    rows, all_met = report(settings, cases, made, found, dict.fromkeys(settings, 20))
    assert all_met == met
    percent = f"{100 - wrong / 24 * 100:.1f}"
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name[EXACT][:5] == ["20", "2.00", "1.00x", "-", "-"]
    assert by_name["step cache 2x"][:4] == ["20", "1.00", "2.00x", "inf"]
    assert by_name["step cache 2x"][5:8] == [percent] * 3
    assert by_name["LoRA"][-1] == "-"
