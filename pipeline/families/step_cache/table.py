"""The table of the step cache, and the schedule that it leads to (MagCache, arXiv:2506.09045).

The residual of a step is what the transformer's blocks add to their input. Its norm, divided by
that of the step before, is a ratio close to 1 that depends on the step and hardly on the prompt.
The error of reusing a residual is estimated from these ratios alone, so that all steps are decided
before the first one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FILE_NAME = "step_cache.json"
MAX_STEPS = 1000
Level = Literal["off", "1.5x", "2x"]
"""How much of the transformer is computed: all steps, or at most 1/1.5 or 1/2 of them."""
SPEEDS: dict[Level, float] = {"1.5x": 1.5, "2x": 2.0}
MAX_RUN = 3
"""Steps in a row that may reuse one residual: the default of diffusers' ``MagCacheConfig``."""
RETENTION = 0.2
"""Share of the first steps that are always computed: the default of diffusers and of the paper."""

Ratio = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Branch = Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=MAX_STEPS)]
Expert = Annotated[tuple[Branch, ...], Field(min_length=1, max_length=2)]


class StepCacheTable(BaseModel):
    """The ratios of one model, as ``step_cache.json`` stores them.

    ``ratios[expert][branch][step]`` is the ratio of a step's residual to that of the step before.
    Branches are the conditional one and, where guidance has two, the unconditional one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    source: str = Field(default="", max_length=1000, description="Where the ratios come from.")
    ratios: tuple[Expert, ...] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _equally_long(self) -> Self:
        if any(len({len(branch) for branch in expert}) > 1 for expert in self.ratios):
            raise ValueError("the branches of an expert should have the same number of steps")
        return self

    def reused_steps(self, phases: Sequence[int], threshold: float) -> frozenset[int]:
        """Return the steps that reuse a residual, counted from 0 over all ``phases``.

        ``phases`` are the numbers of steps of each expert. No residual is reused across experts. A
        table with fewer experts than phases serves the others with its last one.
        """
        reused, start = set[int](), 0
        for ratios, steps in self._by_phase(phases):
            reused |= {start + step for step in _reused(ratios, steps, threshold)}
            start += steps
        return frozenset(reused)

    def threshold_for(self, phases: Sequence[int], speed: float) -> float:
        """Return a threshold with which at most 1/``speed`` of the steps are computed, and with the
        next smaller one more.

        Where the steps that are always computed are already more, it is one that computes the
        fewest.
        """
        total, thresholds = sum(phases), sorted({0.0, *self._errors(phases)})

        def computed(threshold: float) -> int:
            return total - len(self.reused_steps(phases, threshold))

        wanted = max(math.floor(total / speed), computed(thresholds[-1]))
        found = bisect_left(thresholds, True, key=lambda each: computed(each) <= wanted)
        return thresholds[found]

    def _errors(self, phases: Sequence[int]) -> Iterator[float]:
        """Yield every estimate that a threshold may be compared with, rounded up."""
        for ratios, steps in self._by_phase(phases):
            for first in range(_retained(steps), steps):
                branches = [_errors(branch[first : first + MAX_RUN]) for branch in ratios]
                yield from (
                    math.ceil(max(each) * 1e6) / 1e6 for each in zip(*branches, strict=True)
                )

    def _by_phase(self, phases: Sequence[int]) -> Iterator[tuple[list[list[float]], int]]:
        for number, steps in enumerate(phases):
            expert = self.ratios[min(number, len(self.ratios) - 1)]
            yield [nearest(branch, steps) for branch in expert], steps


def nearest(ratios: Sequence[float], steps: int) -> list[float]:
    """Return the ratios for another number of steps: those of the nearest steps, as MagCache's
    reference implementation does. Ties are broken in float32, as in diffusers.
    """
    import numpy as np  # the proxy needs only the names of this module

    if steps == 1:
        return [ratios[-1]]
    scale = np.float32((len(ratios) - 1) / max(1, steps - 1))
    places = np.round(np.arange(steps, dtype=np.float32) * scale).astype(int)
    return [ratios[place] for place in places]


def _retained(steps: int) -> int:
    return max(1, int(RETENTION * steps + 0.5))


def _errors(ratios: Sequence[float]) -> list[float]:
    """Return the estimated error of reusing a residual over the first 1, 2, ... of these steps."""
    product, error, errors = 1.0, 0.0, list[float]()
    for ratio in ratios:
        product *= ratio
        error += abs(1 - product)
        errors.append(error)
    return errors


def _reused(ratios: Sequence[Sequence[float]], steps: int, threshold: float) -> Iterator[int]:
    """Yield the steps of one phase that reuse a residual.

    Both branches of guidance decide together, by the larger error: a step that only one of them
    computes would save nothing where they run on separate ranks.
    """
    last = _retained(steps) - 1  # before the first step that may reuse
    for step in range(_retained(steps), steps):
        error = max(_errors(branch[last + 1 : step + 1])[-1] for branch in ratios)
        if error <= threshold and step - last <= MAX_RUN:
            yield step
        else:
            last = step
