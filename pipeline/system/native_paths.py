"""Paths that were written down as text, for an interpreter that assumes ASCII file names.

The python stub of Triton starts its interpreter without the locale, so a letter beyond ASCII in a
path cannot be encoded there. Bytes that are decoded by `os.fsdecode` can.
"""

from __future__ import annotations

import os
from pathlib import Path


def native_path(text: str) -> Path:
    """The path whose name in UTF-8 is ``text``."""
    return Path(os.fsdecode(text.encode()))


def path_text(path: Path | str) -> str:
    """What `native_path` turns into ``path``; a byte that is not UTF-8 is replaced."""
    return os.fsencode(path).decode(errors="replace")
