"""A table of results: aligned on a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Row = Sequence[str]


def text(header: Row, rows: Sequence[Row]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(map(str.ljust, row, widths)).rstrip() for row in (header, rule, *rows)
    )


def markdown(header: Row, rows: Sequence[Row]) -> str:
    return "\n".join(
        "| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)
    )


def save_markdown(path: Path, title: str, notes: str, header: Row, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {title}\n\n{notes}\n\n{markdown(header, rows)}\n", encoding="utf-8")


def verdict(met: bool | None) -> str:
    """For the column "met"; None is a row without a goal."""
    return "-" if met is None else "yes" if met else "NO"
