"""One line of the table of `bench/pipeline.py`: both sides of a comparison, measured in the same
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.lib import table

HEADER = ("part", "what", "precision", "triton-video", "beside it", "ratio", "goal", "met")


@dataclass(frozen=True)
class Result:
    """``met`` is None for a line without a goal."""

    part: str
    what: str
    precision: str
    ours: str
    beside: str
    ratio: str
    goal: str = "-"
    met: bool | None = None

    def row(self) -> list[str]:
        cells = [
            self.part,
            self.what,
            self.precision,
            self.ours,
            self.beside,
            self.ratio,
            self.goal,
        ]
        return [*cells, table.verdict(self.met)]


def compare_seconds(
    part: str,
    what: str,
    precision: str,
    ours: Sequence[float],
    beside: Sequence[float],
    goal: float | None,
) -> Result:
    """Medians, and the ratio of the medians against the largest one that is allowed."""
    ratio = median(ours) / median(beside)
    allowed = "-" if goal is None else f"<= {goal:g}"
    met = None if goal is None else ratio <= goal
    return Result(
        part, what, precision, seconds(ours), seconds(beside), f"{ratio:.2f}", allowed, met
    )


def seconds(times: Sequence[float]) -> str:
    """The median, with the range it lies in where there are several."""
    if len(times) == 1:
        return f"{times[0]:.2f} s"
    return f"{median(times):.2f} s ({min(times):.2f}-{max(times):.2f})"
