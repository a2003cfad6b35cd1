"""The sha256 of large files, computed once: the cache remembers it for as long as the file is
unchanged.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import CheckpointError

BLOCK_BYTES = 8 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileHashes:
    """Hashes of files. A file counts as unchanged while its device, inode, size and modification
    time are the same.

    So hard links share a record, and a file that was edited in place has none.
    """

    def __init__(self, cache: Path, on_read: Callable[[int], None] = lambda _: None):
        """``on_read`` is called with the size of every block that is read."""
        self._records = cache / "hashes"
        self._on_read = on_read

    def of(self, path: Path) -> str:
        """Return the sha256 of ``path`` in hexadecimal.

        Raises ``CheckpointError`` where a hub's download cache promises another one.
        """
        status = path.stat()
        name = f"{status.st_dev:x}-{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
        record = self._records / name[-2:] / name
        try:
            known = record.read_text(encoding="ascii")
        except FileNotFoundError:
            known = ""
        if not _SHA256.fullmatch(known):
            known = sha256(path, self._on_read)
            _write(record, known)
        expected = _promised(path)
        if expected not in (None, known):
            raise CheckpointError(
                f"{path} is damaged: its sha256 is {known}, and the hub says {expected}; "
                f"delete {path.resolve()} to download it again"
            )
        return known


def sha256(path: Path, on_read: Callable[[int], None] = lambda _: None) -> str:
    """Read a file to its end and return its sha256, whatever is recorded about it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            on_read(len(block))
    return digest.hexdigest()


def _promised(path: Path) -> str | None:
    """Return the sha256 the hub gave for a file of a snapshot of huggingface_hub: snapshots link to
    blobs, and the blob of a large file is named after it.
    """
    if not path.is_symlink():
        return None
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


def _write(record: Path, text: str) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=record.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
    Path(temporary).replace(record)
