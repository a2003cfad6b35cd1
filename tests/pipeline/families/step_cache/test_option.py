"""The option of the step cache is read, and decides together with a request."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.families.step_cache.option import StepCache, StepCacheOption
from pipeline.families.step_cache.table import Level, StepCacheTable
from pipeline.settings import ComputeSettings

TABLE = StepCacheTable(ratios=((tuple([0.99] * 20),),))


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("off", StepCacheOption("off")),
        ("1.5x", StepCacheOption("1.5x")),
        ("2x", StepCacheOption("2x")),
        ("threshold=0.12", StepCacheOption("off", 0.12)),
        ("table=a b.json,threshold=1", StepCacheOption("off", 1.0, Path("a b.json"))),
    ],
)
def test_option_is_a_level_or_a_threshold(text: str, option: StepCacheOption) -> None:
    assert ComputeSettings(step_cache=text).step_cache == text
    assert StepCacheOption.parse(text) == option
    assert option.on == (text != "off")


@pytest.mark.parametrize("text", ["", "3x", "on", "table=a.json", "threshold=-1", "threshold=nan"])
def test_other_options_are_refused_with_the_allowed_ones(text: str) -> None:
    with pytest.raises(ValidationError, match=r"must be off, 1\.5x, 2x, threshold=NUMBER or table"):
        ComputeSettings(step_cache=text)


@pytest.mark.parametrize(
    ("default", "level", "computed"),
    [
        ("off", None, 20),
        ("off", "2x", 9),
        ("1.5x", None, 12),
        ("1.5x", "off", 20),
        ("1.5x", "2x", 9),
        ("threshold=0", None, 20),
        ("threshold=9", None, 8),
        ("threshold=9", "1.5x", 12),
    ],
)
def test_request_overrides_the_default(default: str, level: Level | None, computed: int) -> None:
    cache = StepCache(TABLE, StepCacheOption.parse(default))
    assert 20 - len(cache.reused_steps(level, [20])) == computed


def test_nothing_is_reused_without_a_table() -> None:
    assert StepCache(None, StepCacheOption("2x")).reused_steps("2x", [20]) == frozenset()
