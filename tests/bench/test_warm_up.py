"""The table of `bench/warm_up.py`."""

from __future__ import annotations

import pytest

from bench.warm_up import HEADER, rows_of


@pytest.mark.parametrize(("first", "verdict"), [(0.5, "yes"), (0.9, "yes"), (1.1, "NO")])
def test_warm_up_meets_its_goal_when_the_first_request_is_shorter(first, verdict):
    cold = [[0.0, 1.0, 0.4, 0.6], [0.0, 1.0, 0.4, 0.6]]
    rows = rows_of("torch", cold, [[0.3, first, 0.4, 0.6]])
    assert {len(row) for row in rows} == {len(HEADER)}
    assert [row[-1] for row in rows] == ["-", verdict]
    assert rows[1][-2] == f"{1 - first:.2f} s"
