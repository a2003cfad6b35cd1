"""Which clips `bench/adherence.py` makes, and how it counts."""

from __future__ import annotations

import numpy as np
import pytest

from bench.adherence import GOALS, make_cases, score, score_places
from bench.lib.judge import Judgement
from models.recipe import scene


def test_all_cases_are_held_out() -> None:
    cases = make_cases(None, 0, varied=False)
    assert len(cases) == 72
    held_out = scene.combinations(held=True)
    assert all((c.wanted.colour, c.wanted.shape, c.wanted.motion) in held_out for c in cases)
    assert len({c.prompt for c in cases}) == len({c.seed for c in cases}) == 72
    assert "a red circle moves left on a white background" in {c.prompt for c in cases}
    assert any(c.prompt.startswith("an orange ") for c in cases)


@pytest.mark.parametrize("count", [1, 6, 12, 100])
def test_fewer_cases_are_spread(count: int) -> None:
    cases = make_cases(count, 0, varied=False)
    assert len(cases) == min(count, 72)
    if count >= 6:
        assert {c.wanted.colour for c in cases} == set(scene.COLOURS)


def test_varied_prompts_are_reproducible() -> None:
    first, again = (make_cases(None, 5, varied=True) for _ in range(2))
    assert first == again
    assert first != make_cases(None, 5, varied=False)


def test_missed_goal_is_reported() -> None:
    good = Judgement("red", "circle", "left", "white")
    assert score([good] * 10, [good] * 10)[1]
    rows, met = score([good] * 10, [good] * 8 + [Judgement("red", None, "right", "black")] * 2)
    assert not met, "motion is at 80 %"
    assert {row[0]: row[5] for row in rows} == {
        "colour": "yes",
        "motion": "NO",
        "shape": "yes",
        "background": "-",
    }
    assert list(GOALS) == [row[0] for row in rows]


def test_place_in_the_first_frame_is_compared_with_the_image() -> None:
    cases = make_cases(12, 0, varied=False, from_image=True)
    begins = [case.begin for case in cases if case.begin]
    for case, begin in zip(cases, begins, strict=True):
        assert (*begin.combination, begin.background) == (
            case.wanted.colour,
            case.wanted.shape,
            case.wanted.motion,
            case.wanted.background,
        )
    drawn = scene.render(begins, 17, 64, 64).permute(0, 2, 3, 4, 1)
    clips = list(((drawn + 1) * 127.5).round().byte().numpy())
    row, met = score_places(cases, clips)
    assert row[:3] == ["place", "12", "12"]
    assert met
    moved = [np.roll(clip, 8, axis=1) for clip in clips[:2]]
    row, met = score_places(cases, moved + clips[2:])
    assert row[1] == "10"
    assert not met
