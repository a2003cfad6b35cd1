"""A real rank process can be cancelled within a long denoising step."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CancelledError
from pipeline.families import SamplingParams, VideoRequest
from pipeline.ranks.group import RankGroup, Timeouts
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import run_one, settings

INFO = Checkpoint.open(SHAPES).info
pytestmark = pytest.mark.ranks


def request(side: int, frames: int, steps: int) -> VideoRequest:
    params = SamplingParams(
        prompt="-", height=side, width=side, num_frames=frames, num_inference_steps=steps, seed=7
    )
    return INFO.resolve(params)


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        name: random.standard_normal((1, 9, INFO.text_dim)).astype(np.float32)
        for name in ("prompt_embeds", "negative_embeds")
    }


def test_cancel_stops_within_the_step_and_the_rank_stays_usable() -> None:
    asked: list[int] = []

    def cancel_within_the_first_step(step: int) -> None:
        asked.append(step)
        if len(asked) == 2:
            raise CancelledError("cancelled")

    with RankGroup(settings(SHAPES), Timeouts(startup=120, heartbeat=30, step=120)) as group:
        expected = run_one(group, request(32, 17, 2), arrays())
        with pytest.raises(CancelledError):
            # A step takes some 10 s in one thread: more than a second in any case.
            run_one(group, request(512, 33, 5), arrays(), cancel_within_the_first_step)
        assert asked == [0, 0], "not one step was finished"
        again = run_one(group, request(32, 17, 2), arrays())
        assert group.starts == 1
    np.testing.assert_array_equal(again, expected)
