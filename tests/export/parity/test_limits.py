"""What is past a limit, in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from export.parity.limits import Limits, compare
from pipeline.families.parts import (
    IMAGE_ENCODER,
    PARTS,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    VAE_DECODER,
    VAE_ENCODER,
)

FP32 = Limits.of("fp32", VAE_DECODER)
ONES = np.ones(8, np.float32)


def test_limits_by_precision_and_part() -> None:
    assert Limits(1e-4, None) == FP32 == Limits.of("fp32", TEXT_ENCODER)
    assert Limits.of("bf16", VAE_ENCODER) == Limits.of("fp16", VAE_DECODER) == Limits(None, 0.999)
    assert (
        Limits.of("bf16", TEXT_ENCODER_2) == Limits.of("fp16", IMAGE_ENCODER) == Limits(None, 0.98)
    )


@pytest.mark.parametrize(
    ("scale", "offset", "past"),
    [(1, 9e-5, False), (1, 1.2e-4, True), (9, 1.2e-4, True), (300, 2e-3, False), (300, 4e-3, True)],
)
def test_fp32_is_judged_by_its_largest_difference(scale: float, offset: float, past: bool) -> None:
    """An absolute one up to values of 10; a share of the largest value beyond."""
    actual = ONES * scale
    actual[3] += offset
    assert compare(ONES * scale, actual).exceeds(FP32) is past


@pytest.mark.parametrize("part", ["vae_decoder", "text_encoder"])
def test_a_half_is_judged_by_its_direction(part: str) -> None:
    limits = Limits.of("bf16", PARTS[part])
    one, other = np.zeros(2), np.zeros(2)
    one[0] = other[0] = 1.0
    assert limits.cosine is not None
    other[1] = np.tan(np.arccos(limits.cosine)) * 0.99
    assert not compare(one, other).exceeds(limits)
    other[1] *= 1.05
    assert compare(one, other).exceeds(limits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("limits", [FP32, Limits.of("fp16", TEXT_ENCODER)])
def test_a_nan_exceeds_every_limit(value: float, limits: Limits) -> None:
    actual = ONES.copy()
    actual[5] = value
    difference = compare(ONES, actual)
    assert difference.exceeds(limits)
    assert difference.text(limits) == "NaN or Inf"


def test_zeros_equal_only_zeros() -> None:
    zeros = np.zeros(4, np.float32)
    assert compare(zeros, zeros).cosine == 1
    assert compare(zeros, zeros + 1).cosine == 0


def test_sentence_names_the_measure_that_counts() -> None:
    difference = compare(ONES * 20, ONES * 20.01)
    assert difference.text(FP32) == "off by 0.01, must be at most 0.0002"
    half = Limits.of("fp16", VAE_DECODER)
    assert difference.text(half) == "cosine 1.0000, must be at least 0.999"


def test_zeros_equal_zeros_only() -> None:
    zeros = np.zeros(4, np.float32)
    half = Limits.of("bf16", VAE_DECODER)
    assert compare(zeros, zeros).cosine == 1.0
    assert not compare(zeros, zeros).exceeds(half)
    assert compare(zeros, np.ones(4, np.float32)).exceeds(half)


def test_opposite_direction_has_a_cosine_of_minus_one() -> None:
    found = compare(ONES, -ONES)
    assert (found.max_abs, found.peak, found.finite) == (2.0, 1.0, True)
    assert found.cosine == pytest.approx(-1.0)
