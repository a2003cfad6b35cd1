"""Results that are kept so that a text is encoded once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages.kept_results import Arrays, KeptResults


class Doubling:
    """An encoder that doubles its ids."""

    inputs = ("INPUT_IDS",)

    def __init__(self) -> None:
        self.closed = False

    def run(self, feeds: Arrays) -> Arrays:
        if feeds["INPUT_IDS"][0, 0] < 0:
            raise ValueError("a negative id")
        return {"EMBEDS": 2 * feeds["INPUT_IDS"]}

    def close(self) -> None:
        self.closed = True


def ids(*values: int) -> dict[str, np.ndarray]:
    return {"INPUT_IDS": np.array([values], np.int64)}


@pytest.fixture
def reused() -> list[bool]:
    return []


@pytest.fixture
def kept(reused: list[bool]) -> KeptResults:
    return KeptResults(Doubling(), reused.append, max_bytes=4 * 8)


def test_known_inputs_are_not_encoded_again(kept: KeptResults, reused: list[bool]) -> None:
    results = [kept.run(given)["EMBEDS"].tolist() for given in (ids(1), ids(2), ids(1))]
    assert results == [[[2]], [[4]], [[2]]]
    assert reused == [False, False, True]


@pytest.mark.parametrize(
    "other",
    [
        {"INPUT_IDS": np.array([[1], [1]])},
        {"INPUT_IDS": np.array([[1, 1]], np.int32)},
        {**ids(1, 1), "ATTENTION_MASK": np.array([[1, 1]])},
    ],
    ids=["shape", "type", "more"],
)
def test_inputs_that_differ_are_not_known(
    kept: KeptResults, reused: list[bool], other: dict[str, np.ndarray]
) -> None:
    kept.run(ids(1, 1))
    kept.run(other)
    assert reused == [False, False]


def test_the_results_used_longest_ago_go_first(kept: KeptResults, reused: list[bool]) -> None:
    for given in (ids(1, 1), ids(2, 2), ids(1, 1), ids(3, 3), ids(1, 1), ids(2, 2)):
        kept.run(given)
    assert reused == [False, False, True, False, True, False]


def test_a_result_beyond_the_limit_is_not_kept(kept: KeptResults, reused: list[bool]) -> None:
    for _ in range(2):
        assert kept.run(ids(*range(5)))["EMBEDS"].tolist() == [[0, 2, 4, 6, 8]]
    kept.run(ids(1))
    kept.run(ids(1))
    assert reused == [False, False, False, True]


def test_a_failure_is_not_kept(kept: KeptResults, reused: list[bool]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="a negative id"):
            kept.run(ids(-1))
    assert reused == [False, False]
