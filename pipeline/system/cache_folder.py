"""The folder of what is made once and kept: exported graphs, engines and compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import OutputError

NAME = "triton-video"
COMPILED = "compiled"
"""The folder in it with the kernels that ``torch.compile`` made."""


def cache_folder() -> Path:
    """Return ``$TRITON_VIDEO_CACHE``, or ``triton-video`` in the user's cache folder.

    Raises ``OutputError`` if the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    given = os.environ.get("TRITON_VIDEO_CACHE") or f"{base}/{NAME}"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise OutputError(
            "this user has no home folder; set TRITON_VIDEO_CACHE to a writable folder"
        ) from None
