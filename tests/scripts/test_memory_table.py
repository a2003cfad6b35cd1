"""The page of what fits on which GPU is current."""

from __future__ import annotations

from pathlib import Path

from scripts.memory_table import PAGE, page


def test_the_page_is_current(tmp_path: Path) -> None:
    """After a change of the plan, run `python -m scripts.memory_table`."""
    assert PAGE.read_text(encoding="utf-8") == page(tmp_path)
