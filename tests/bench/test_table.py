"""Tables, ratios and goals of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.lib import result, table
from bench.pipeline import main


def test_goal_is_met_or_missed() -> None:
    met = result.compare_seconds("a", "warm", "fp32", [0.8, 0.9, 5.0], [1.0, 1.0, 1.0], 0.9)
    assert met.row() == [
        "a",
        "warm",
        "fp32",
        "0.90 s (0.80-5.00)",
        "1.00 s (1.00-1.00)",
        "0.90",
        "<= 0.9",
        "yes",
    ]
    missed = result.compare_seconds("a", "warm", "fp32", [0.91], [1.0], 0.9)
    assert (missed.met, missed.ours, missed.row()[-1]) == (False, "0.91 s", "NO")
    without = result.compare_seconds("b", "first", "fp32", [9.0], [1.0], None)
    assert without.row()[-2:] == ["-", "-"]


def test_columns_are_aligned() -> None:
    assert table.text(("a", "long"), [("wide", "1")]).splitlines() == [
        "a     long",
        "----  ----",
        "wide  1",
    ]


def test_markdown_table_is_written(tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.md"
    table.save_markdown(page, "Title", "Notes.", ("a", "b"), [("1", "2")])
    assert page.read_text() == "# Title\n\nNotes.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "a,x"])
    assert "x: choose from a,b,c,d" in capsys.readouterr().err
