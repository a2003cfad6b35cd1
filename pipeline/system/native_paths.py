"""Convert paths to text and back, for an interpreter that assumes ASCII file names.

Triton's Python stub starts its interpreter without the locale, so a non-ASCII letter in a path
cannot be encoded there. A string that `os.fsdecode` made from bytes can.
"""

from __future__ import annotations

import os
from pathlib import Path


def native_path(text: str) -> Path:
    """Return the path whose name in UTF-8 is ``text``."""
    return Path(os.fsdecode(text.encode()))


def path_text(path: Path | str) -> str:
    """Return the text that `native_path` turns into ``path``.

    Bytes that are not UTF-8 are replaced.
    """
    return os.fsencode(path).decode(errors="replace")
