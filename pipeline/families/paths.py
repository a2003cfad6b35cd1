"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator


def _clean_path(value: Any) -> Any:
    """The path with ``~`` expanded. An empty one would mean the current folder, which is rarely
    what was meant.
    """
    if value == "" or "\0" in str(value):
        raise ValueError("should be a path, and not empty")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value} names the home folder of no known user") from None


CleanPath = Annotated[Path, BeforeValidator(_clean_path)]
