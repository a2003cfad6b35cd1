"""Flags are resolved to a layout of ranks, and errors show the arithmetic of a contradiction."""

from __future__ import annotations

import pytest

from pipeline.errors import InputError
from pipeline.parallel.layout import Layout, resolve_layout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Layout(1, 1, 1)),
        ({"num_gpus": 4}, Layout(4, 1, 1)),
        ({"num_gpus": 2, "sp_size": 2}, Layout(2, 1, 1)),
        ({"num_gpus": 4, "ulysses_degree": 2, "ring_degree": 2}, Layout(2, 2, 1)),
        ({"ulysses_degree": 2, "ring_degree": 2}, Layout(2, 2, 1)),
        ({"ring_degree": 2}, Layout(1, 2, 1)),
        ({"num_gpus": 4, "ring_degree": 2}, Layout(2, 2, 1)),
        ({"sp_size": 4, "ulysses_degree": 1}, Layout(1, 4, 1)),
        ({"num_gpus": 8, "sp_size": 4}, Layout(4, 1, 2)),
        ({"num_gpus": 2, "sp_size": 1}, Layout(1, 1, 2)),
        ({"num_gpus": 4, "cfg_parallel": True}, Layout(2, 1, 2)),
        ({"num_gpus": 4, "cfg_parallel": True, "ring_degree": 2}, Layout(1, 2, 2)),
        ({"sp_size": 2, "cfg_parallel": True}, Layout(2, 1, 2)),
    ],
)
def test_omitted_degrees_are_derived(given: dict, expected: Layout) -> None:
    assert resolve_layout(**given) == expected


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"sp_size": 2, "ulysses_degree": 2, "ring_degree": 2},
            "sp_size: 2 is not ulysses_degree 2 x ring_degree 2 = 4",
        ),
        (
            {"num_gpus": 4, "ulysses_degree": 3},
            "ulysses_degree: 3 does not divide sp_size 4; 1, 2, 4 do",
        ),
        (
            {"sp_size": 6, "ring_degree": 4},
            "ring_degree: 4 does not divide sp_size 6; 1, 2, 3, 6 do",
        ),
        ({"num_gpus": 2, "ulysses_degree": 4}, "ulysses_degree: 4 is more than num_gpus 2"),
        ({"num_gpus": 3, "cfg_parallel": True}, "num_gpus: 3 cannot be halved"),
        (
            {"num_gpus": 4, "sp_size": 1},
            "num_gpus: 4 is not sp_size 1 x 1 (no cfg_parallel) = 1",
        ),
        (
            {"num_gpus": 4, "sp_size": 2, "cfg_parallel": False},
            "num_gpus: 4 is not sp_size 2 x 1 (no cfg_parallel) = 2",
        ),
        (
            {"num_gpus": 2, "sp_size": 2, "cfg_parallel": True},
            "num_gpus: 2 is not sp_size 2 x 2 (a branch of guidance each) = 4",
        ),
    ],
)
def test_errors_show_the_arithmetic_of_a_contradiction(given: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_layout(**given)
    assert sentence in str(caught.value)
