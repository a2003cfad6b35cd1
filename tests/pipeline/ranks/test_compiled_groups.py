"""Rank processes with compiled blocks make the latents of eager ones. Compiling takes a minute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import CancelledError
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup, Timeouts
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import ALONE, run_one, settings
from tests.pipeline.ranks.test_inside_step import arrays, request

pytestmark = [pytest.mark.ranks, pytest.mark.exhaustive]
LAYOUTS = {"one rank": ALONE, "Ulysses": Layout(2, 1), "Ring": Layout(1, 2)}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_compiled_ranks_equal_an_eager_one(layout: Layout) -> None:
    with RankGroup(settings(SHAPES)) as group:
        expected = run_one(group, request(32, 17, 2), arrays())
    with RankGroup(settings(SHAPES, layout, enable_torch_compile=True)) as group:
        made = run_one(group, request(32, 17, 2), arrays())
        assert group.compile_s > 1
        spent = group.compile_s
        again = run_one(group, request(32, 17, 2), arrays())
        assert group.compile_s == spent
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(again, made)


def test_cancel_stops_within_a_compiled_step() -> None:
    asked: list[int] = []

    def cancel_within_the_first_step(step: int) -> None:
        asked.append(step)
        if len(asked) == 2:
            raise CancelledError("cancelled")

    timeouts = Timeouts(startup=120, heartbeat=30, step=300)
    with RankGroup(settings(SHAPES, enable_torch_compile=True), timeouts) as group:
        with pytest.raises(CancelledError):
            run_one(group, request(512, 33, 5), arrays(), cancel_within_the_first_step)
        assert asked == [0, 0], "not one step was finished"
