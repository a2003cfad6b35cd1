"""The table of the step cache decides which steps reuse a residual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.hooks.mag_cache import nearest_interp
from pydantic import ValidationError

from pipeline.families.step_cache import table as tables
from pipeline.families.step_cache.table import StepCacheTable, nearest

PUBLISHED = sorted(Path(tables.__file__).parent.glob("*.json"))


def published(path: Path) -> StepCacheTable:
    return StepCacheTable.model_validate_json(path.read_bytes())


@pytest.mark.parametrize("length", [1, 7, 14, 20, 26, 40, 50])
def test_ratios_of_another_number_of_steps_are_those_of_diffusers(length: int) -> None:
    ratios = [1 + number / 1000 for number in range(length)]
    for steps in range(1, 201):
        theirs = nearest_interp(torch.tensor(ratios, dtype=torch.float64), steps)
        assert nearest(ratios, steps) == theirs.tolist()


def test_no_residual_is_reused_across_experts() -> None:
    ratios = tuple([1.0] * 10)
    table = StepCacheTable(ratios=((ratios,), (ratios,)))
    # Each expert computes its first fifth, and after three reused steps one.
    assert sorted(table.reused_steps([10, 10], 1.0)) == [
        2, 3, 4, 6, 7, 8, 12, 13, 14, 16, 17, 18,
    ]  # fmt: skip
    assert sorted(table.reused_steps([6, 0], 1.0)) == [1, 2, 3, 5]


def test_the_larger_error_of_both_branches_decides() -> None:
    exact, far = tuple([1.0] * 10), tuple([1.5] * 10)
    table = StepCacheTable(ratios=((exact, far),))
    assert table.reused_steps([10], 0.4) == frozenset()
    assert sorted(table.reused_steps([10], 0.5)) == [2, 4, 6, 8]


def test_errors_add_up_over_a_run_of_reused_steps() -> None:
    table = StepCacheTable(ratios=((tuple([0.9] * 10),),))
    # After two steps the error is 0.1 + 0.19, after three 0.1 + 0.19 + 0.271.
    assert sorted(table.reused_steps([10], 0.28)) == [2, 4, 6, 8]
    assert sorted(table.reused_steps([10], 0.3)) == [2, 3, 5, 6, 8, 9]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
@pytest.mark.parametrize("speed", [1.5, 2.0])
def test_level_computes_at_most_its_share_of_the_steps(path: Path, speed: float) -> None:
    table = published(path)
    for steps in (20, 30, 40, 50):
        phases = [steps] if len(table.ratios) == 1 else [steps * 3 // 5, steps - steps * 3 // 5]
        threshold = table.threshold_for(phases, speed)
        computed = steps - len(table.reused_steps(phases, threshold))
        assert steps / speed * 0.8 - 1 <= computed <= steps / speed
        below = threshold - 2e-6
        assert steps - len(table.reused_steps(phases, below)) > steps // speed


def test_level_of_few_steps_computes_what_has_to_be_computed() -> None:
    table = StepCacheTable(ratios=((tuple([0.9] * 10),),))
    assert table.reused_steps([1], table.threshold_for([1], 2.0)) == frozenset()
    assert len(table.reused_steps([2], table.threshold_for([2], 2.0))) == 1


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_tables_name_their_source(path: Path) -> None:
    table = published(path)
    assert "Apache-2.0" in table.source
    assert all(len(expert) <= 2 and min(map(min, expert)) > 0.5 for expert in table.ratios)


@pytest.mark.parametrize(
    "ratios",
    [
        (),
        (((1.0, 1.0), (1.0,)),),
        (((),),),
        (((0.0,),),),
        (((float("nan"),),),),
        (((1.0,),),) * 3,
        (((1.0,),) * 3,),
    ],
)
def test_malformed_tables_are_refused(ratios: object) -> None:
    with pytest.raises(ValidationError):
        StepCacheTable.model_validate({"ratios": ratios})


def test_interpolation_keeps_both_ends() -> None:
    for length, steps in np.ndindex(20, 30):
        made = nearest([float(number) for number in range(length + 2)], steps + 2)
        assert (made[0], made[-1]) == (0.0, length + 1.0)
