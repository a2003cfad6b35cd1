"""Share a checkpoint's file with an exported folder without writing its bytes again.

ONNX Runtime and TensorRT read external data only below the graph's own folder, and not through a
symbolic link that leads out of it. So the file gets a second name there: a clone where the file
system supports it (the blocks are shared until one side is written), otherwise a hard link.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_FICLONE = 0x40049409  # linux/fs.h


def share(source: Path, target: Path) -> bool:
    """Create ``target`` with the bytes of ``source``; return False where the file system can
    neither clone nor link.
    """
    # A hub's cache has symbolic links, and a hard link to one would dangle elsewhere.
    source = source.resolve()
    return _clone(source, target) or _link(source, target)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as origin, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, origin.fileno())
        except OSError:
            target.unlink()
            return False
    return True


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links, or another user's file
        return False
    return True
