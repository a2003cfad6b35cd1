"""Clips that continue: how they are drawn, and what the loss gives the transformer."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from models.recipe import train_prefix
from models.recipe.scene import ARM, DIRECTIONS, sample_turn
from models.recipe.train_dit import flow_matching_loss


@pytest.mark.parametrize("turn", [0.25, 0.5])
def test_shape_moves_as_its_text_says_after_the_turn(turn: float) -> None:
    rng = random.Random(0)
    for scene in (sample_turn(rng, turn) for _ in range(200)):
        assert scene.times == (0, turn, 1)
        for (x, y), radius in zip(scene.centre, scene.radius, strict=True):
            assert ARM * radius - 1e-6 <= min(x, y) <= max(x, y) <= 1 - ARM * radius + 1e-6
        (_, (x, y), (last_x, last_y)), (_, radius, last_radius) = scene.centre, scene.radius
        way = DIRECTIONS.get(scene.motion)
        if way:
            assert (last_x - x) * way[0] + (last_y - y) * way[1] > 0.05
            assert last_radius == radius
        else:
            assert (last_radius > radius) == (scene.motion == "grow")


def test_batch_has_clips_of_each_kind_in_random_order() -> None:
    picks, given = train_prefix._batch(random.Random(0))
    assert Counter(given) == {0: 7, 1: 5, 2: 2, 3: 2}
    assert sorted(given) != given
    early = range(train_prefix.POOL, train_prefix.POOL + train_prefix.TURNS)
    late = range(early.stop, early.stop + train_prefix.TURNS)
    pools = {0: range(train_prefix.POOL), 1: range(train_prefix.POOL), 2: early, 3: late}
    assert all(pick in pools[count] for pick, count in zip(picks, given, strict=True))


class Perfect(nn.Module):
    """Knows the clean latents, so it is right wherever there is noise, and wrong elsewhere."""

    def __init__(self, clean: torch.Tensor):
        super().__init__()
        self.clean = clean
        self.mixed = self.time = torch.empty(0)

    def forward(self, mixed: torch.Tensor, time: torch.Tensor, *_: Any, **__: Any):
        self.mixed, self.time = mixed, time
        sigma = (time / 1000).view(len(mixed), mixed.shape[2], -1)[..., 0]
        noisy = (mixed - self.clean) / sigma[:, None, :, None, None].clamp(min=1e-9)
        return (noisy,)


def test_given_frames_have_no_noise_and_no_error() -> None:
    torch.manual_seed(0)
    clean, given = torch.randn(4, 2, 5, 4, 4), torch.tensor([0, 1, 2, 3])
    perfect = Perfect(clean)
    loss = flow_matching_loss(perfect, clean, torch.zeros(4, 1, 1), given)
    assert loss < 1e-3
    assert perfect.time.shape == (4, 5 * 4)  # patches of 2x2
    for i, count in enumerate(given.tolist()):
        torch.testing.assert_close(perfect.mixed[i, :, :count], clean[i, :, :count])
        assert (perfect.time[i, : 4 * count] == 0).all()
        assert (perfect.time[i, 4 * count :] > 0).all()
        assert (perfect.mixed[i, :, count:] != clean[i, :, count:]).all()
