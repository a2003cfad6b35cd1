"""The option ``step_cache`` of a server, and the steps that it lets a request reuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic_core import PydanticCustomError

from pipeline.families.step_cache.table import SPEEDS, Level, StepCacheTable

FORMS = f"{', '.join(get_args(Level))}, threshold=NUMBER or table=FILE,threshold=NUMBER"
PATTERN = re.compile(r"(?:table=(?P<table>[^,]+),)?threshold=(?P<threshold>\d{1,3}(?:\.\d{1,9})?)")


@dataclass(frozen=True)
class StepCacheOption:
    """A parsed option: a ``level``; or a ``threshold``, with the file of a table or the model's."""

    level: Level = "off"
    threshold: float | None = None
    table: Path | None = None

    @classmethod
    def parse(cls, text: str) -> StepCacheOption:
        """Read one of ``FORMS``. Raises pydantic's error for other texts."""
        for level in get_args(Level):
            if text == level:
                return cls(level)
        if found := PATTERN.fullmatch(text):
            table = found["table"]
            return cls("off", float(found["threshold"]), Path(table) if table else None)
        raise PydanticCustomError("step_cache", "{text} is not valid; it must be {forms}", {
            "text": repr(text), "forms": FORMS,
        })  # fmt: skip

    @property
    def on(self) -> bool:
        return self.level != "off" or self.threshold is not None


def check_option(text: str) -> str:
    """Return ``text``. Raises pydantic's error if it is not one of ``FORMS``."""
    StepCacheOption.parse(text)
    return text


@dataclass(frozen=True)
class StepCache:
    """A model's table and the server's default."""

    table: StepCacheTable | None = None
    default: StepCacheOption = StepCacheOption()

    def reused_steps(self, level: Level | None, phases: Sequence[int]) -> frozenset[int]:
        """Return the steps that reuse a residual, of a request with ``level``, or None for the
        default. ``phases`` are the numbers of steps of each expert.
        """
        option = self.default if level is None else StepCacheOption(level)
        if self.table is None or not option.on:
            return frozenset()
        threshold = option.threshold
        if threshold is None:
            threshold = self.table.threshold_for(phases, SPEEDS[option.level])
        return self.table.reused_steps(phases, threshold)
