"""Parse paths that users write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator


def clean_path(value: Any) -> Any:
    """Return the path with ``~`` expanded. Raises ``ValueError`` for an invalid one.

    An empty path would be the current folder, which users rarely intend.
    """
    if value == "" or "\0" in str(value):
        raise ValueError("should be a path, and not empty")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value} names the home folder of no known user") from None


CleanPath = Annotated[Path, BeforeValidator(clean_path)]
