"""Clips of the motion that a LoRA teaches."""

from __future__ import annotations

import random

import torch

from models.recipe.bounce import sample_bounce
from models.recipe.prompts import describe
from models.recipe.scene import render


def test_a_shape_that_bounces_falls_and_comes_back() -> None:
    rng = random.Random(0)
    scene = sample_bounce(rng)
    (clip,) = render([scene], 17, 64, 64)
    torch.testing.assert_close(clip[:, 0], clip[:, -1])
    covered = (clip != clip[:, :, :1, :1]).any(dim=0).float()
    height = (covered * torch.arange(64.0)[:, None]).sum((1, 2)) / covered.sum((1, 2))
    assert (height[1:9] > height[:8]).all()
    assert (height[9:] < height[8:-1]).all()
    assert "bounc" in describe(scene, rng)
