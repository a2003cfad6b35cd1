"""The judge of `bench/adherence.py` is right on clips whose content is known, and guesses at
nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from bench.lib.judge import Judgement, judge
from models.recipe import scene

SEEDS = (1, 2, 3)
ATTRIBUTES = ("colour", "shape", "motion", "background")


def scenes(seed: int) -> list[scene.Scene]:
    """One scene for each of the 144 combinations."""
    rng = random.Random(seed)
    made = []
    for colour, shape, motion in scene.combinations(held=False) + scene.combinations(held=True):
        speed = rng.choice(scene.SPEEDS)
        centre, radius = scene._path(motion, speed, rng)
        made.append(
            scene.Scene(
                colour, shape, motion, rng.choice(list(scene.BACKGROUNDS)), speed, centre, radius
            )
        )
    return made


def clips(drawn: list[scene.Scene], size: int = 64, num_frames: int = 17) -> np.ndarray:
    """The scenes, rendered at once, as (scenes, frames, height, width, RGB)."""
    pixels = scene.render(drawn, num_frames, size, size).permute(0, 2, 3, 4, 1).numpy()
    return ((pixels + 1) * 127.5).round().astype(np.uint8)


def clip(drawn: scene.Scene) -> np.ndarray:
    return clips([drawn])[0]


def untouched(frames: np.ndarray) -> np.ndarray:
    return frames


def worn(frames: np.ndarray) -> np.ndarray:
    """A 3x3 box blur and mild noise."""
    padded = np.pad(frames.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    blurred = np.mean(
        [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0
    )
    noise = np.random.default_rng(0).normal(0, 8, frames.shape)
    return (blurred + noise).round().clip(0, 255).astype(np.uint8)


def faded(frames: np.ndarray) -> np.ndarray:
    """Less contrast, as a weak decoder gives: every value a fifth of the way to grey."""
    return (0.8 * frames + 0.2 * 128).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("damage", "least"), [(untouched, 0.99), (worn, 0.95), (faded, 0.95)])
def test_every_combination_is_judged_right(
    damage: Callable[[np.ndarray], np.ndarray], least: float, seed: int
) -> None:
    drawn = scenes(seed)
    found = [judge(damage(made)) for made in clips(drawn)]
    for name in ATTRIBUTES:
        wrong = [
            (one, judgement)
            for one, judgement in zip(drawn, found, strict=True)
            if getattr(one, name) != getattr(judgement, name)
        ]
        assert len(wrong) <= (1 - least) * len(drawn), (name, wrong[:5])


def test_other_sizes_and_lengths_are_judged_right() -> None:
    drawn = scenes(4)[::7]
    for one, made in zip(drawn, clips(drawn, size=96, num_frames=33), strict=True):
        found = judge(made)
        assert (found.colour, found.shape, found.motion) == one.combination


@pytest.mark.parametrize("background", scene.BACKGROUNDS)
@pytest.mark.parametrize("noise", [0, 8])
def test_a_blank_clip_shows_nothing(background: str, noise: int) -> None:
    blank = np.full((17, 64, 64, 3), scene.BACKGROUNDS[background], float)
    blank += np.random.default_rng(1).normal(0, noise, blank.shape)
    assert judge(blank.clip(0, 255).astype(np.uint8)) == Judgement(None, None, None, background)


def test_an_object_that_stands_still_has_no_motion() -> None:
    still = clip(scenes(1)[0])[:1].repeat(17, axis=0)
    found = judge(still)
    assert found.motion is None
    assert found.colour is not None


def test_an_object_in_few_frames_only_is_none() -> None:
    frames = clip(scenes(1)[0])
    frames[3:] = frames[0, 0, 0]
    assert judge(frames).motion is None


def test_grey_object_has_no_colour() -> None:
    frames = np.full((17, 64, 64, 3), 255, np.uint8)
    frames[:, 20:40, 20:40] = 90
    found = judge(frames)
    assert (found.colour, found.shape, found.background) == (None, "square", "white")
