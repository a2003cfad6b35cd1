"""Results of the sections: lines of JSON on standard output while they run, a table at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

_PREFIX = "RESULT "


@dataclass(frozen=True)
class Result:
    """One measurement or finding."""

    name: str
    value: str | int | float
    unit: str = ""
    note: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return " ".join(filter(None, (value, self.unit, self.note)))


def report(name: str, value: str | int | float, unit: str = "", note: str = "") -> None:
    """Print a result at once, so that it survives a crash of its section."""
    print(_PREFIX + json.dumps(asdict(Result(name, value, unit, note))), flush=True)


def results_in(log: str) -> list[Result]:
    """The results among the lines of a section's output."""
    lines = (line for line in log.splitlines() if line.startswith(_PREFIX))
    return [Result(**json.loads(line.removeprefix(_PREFIX))) for line in lines]


def table(results: Iterable[Result]) -> str:
    """The results as aligned text."""
    rows = list(results)
    width = max(len(row.name) for row in rows)
    return "\n".join(f"{row.name:{width}}  {row}" for row in rows)
