"""How near a clip is to another one: PSNR, and SSIM (Wang et al., 2004, IEEE TIP 13:4)."""

from __future__ import annotations

import numpy as np

PEAK = 255.0
WINDOW = 7
"""Side of SSIM's window in pixels: a plain mean, as scikit-image's default."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (ITU-R BT.601)."""


def psnr(clip: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR in decibels of two uint8 clips of one shape; infinite if they are equal."""
    error = np.mean((clip.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))


def ssim(clip: np.ndarray, other: np.ndarray) -> float:
    """Return the mean SSIM of the luma of two uint8 clips (T, H, W, 3), from -1 to 1."""
    x, y = (each.astype(np.float64) @ LUMA for each in (clip, other))
    mean_x, mean_y = _means(x), _means(y)
    samples = WINDOW**2
    unbiased = samples / (samples - 1)
    var_x = unbiased * (_means(x * x) - mean_x**2)
    var_y = unbiased * (_means(y * y) - mean_y**2)
    both = unbiased * (_means(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return float((above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def _means(frames: np.ndarray) -> np.ndarray:
    """Return the mean of each whole window of (T, H, W)."""
    sums = np.pad(frames, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    w = WINDOW
    inside = sums[:, w:, w:] - sums[:, :-w, w:] - sums[:, w:, :-w] + sums[:, :-w, :-w]
    return inside / w**2
