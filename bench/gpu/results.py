"""Results of the sections: lines of JSON on standard output while they run, a table at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from bench.lib.table import Row, text

_PREFIX = "RESULT "


@dataclass(frozen=True)
class Result:
    """One measurement or finding."""

    name: str
    value: str | int | float
    unit: str = ""
    note: str = ""


def report(name: str, value: str | int | float, unit: str = "", note: str = "") -> None:
    """Print a result at once, so that it survives a crash of its section."""
    print(_PREFIX + json.dumps(asdict(Result(name, value, unit, note))), flush=True)


def results_in(log: str) -> list[Result]:
    """The results among the lines of a section's output."""
    lines = (line for line in log.splitlines() if line.startswith(_PREFIX))
    return [Result(**json.loads(line.removeprefix(_PREFIX))) for line in lines]


def table(results: Iterable[Result]) -> str:
    """Return the results as aligned text."""
    return text(("result", "value", "unit", "note"), [_row(result) for result in results])


def _row(result: Result) -> Row:
    value = f"{result.value:.4g}" if isinstance(result.value, float) else str(result.value)
    return (result.name, value, result.unit, result.note)
