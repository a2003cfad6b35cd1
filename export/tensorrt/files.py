"""The files of a build: engines and timings of kernels. Readers see the old file or the whole new
one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> None:
    """Write ``content``, anything with a buffer, to ``path``: an engine of gigabytes is not copied
    first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        staged.chmod(0o644)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def load_timings(config: Any, path: Path) -> None:
    """Load timings, so that known kernels are not timed again. Timings of another GPU or version
    are ignored.
    """
    known = path.read_bytes() if path.exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timings(config: Any, path: Path) -> None:
    """Save timings after a build; of two builds that end at once, one has its timings kept."""
    write(path, config.get_timing_cache().serialize())
