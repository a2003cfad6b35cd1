"""The table of the defaults of a CPU beside the old ones."""

from __future__ import annotations

import pytest

from bench.defaults import HEADER, OLD, SIDES, row


@pytest.mark.parametrize(
    ("new", "seconds", "met"), [("fp32", 1.1, "yes"), ("bf16", 0.5, "yes"), ("bf16", 1.2, "NO")]
)
def test_a_new_default_may_not_be_slower_than_the_old(new: str, seconds: float, met: str) -> None:
    times = {side: [9.0, 9.0, 9.0] for side in SIDES} | {OLD: [1.0, 1.0, 5.0]}
    cells = row("quiet", times | {new: [seconds] * 3}, new)
    assert len(cells) == len(HEADER)
    assert cells[0] == "quiet"
    assert cells[-3:] == [f"{seconds:.2f}", "<= 1.15", met]
