"""Watches the file of an open SQLite database, which may be removed or replaced.

SQLite does not notice: it keeps writing to the file without a name, and those writes are lost.
"""

from __future__ import annotations

import functools
import glob
import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from pipeline.system.private import private_file, tighten

SQLITE_MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
# https://www.sqlite.org/fileformat.html#the_database_header
CHANGE_COUNTER, APPLICATION_ID = slice(24, 28), slice(68, 72)
FILE_REMOVED = "its file was removed or replaced; put the original back, or restart the server"
FILE_OVERWRITTEN = "its file was overwritten; restore it, then restart the server"

Identity = tuple[int, int] | None


def make_private(path: Path) -> None:
    """Create the database file with private permissions, or make it and its companions private.

    SQLite creates companion files with the same mode. Raises ``OSError``.
    """
    private_file(path)
    for beside in path.parent.glob(f"{glob.escape(path.name)}-*"):
        tighten(beside)


class SqliteFile:
    """Watches the database at ``path``, which exists and has its schema. Open it once a process.

    POSIX drops all locks of a process on a file when the process closes any descriptor of it, so
    close the watch after the connections.
    """

    def __init__(self, path: Path):
        """Open ``path``. Raises ``sqlite3.Error`` or ``OSError``."""
        self._paths = (path, *_beside(path))
        # While a connection is open in WAL mode, no process removes the companion files.
        self._anchor = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        identifier = self._identified()
        self._anchor.execute("PRAGMA busy_timeout=0")
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._identities = [_identity(each) for each in self._paths]
        header = self._header()
        self._ids = {identifier.to_bytes(4, "big"), header[APPLICATION_ID]}
        self._counter = header[CHANGE_COUNTER]
        self._overwritten = False

    def problem(self) -> str | None:
        """Return why the database must not be used, or None. Takes microseconds.

        A removed file may come back, with its two companions. An overwritten one is not trusted
        again: the caches of the connections do not match it.
        """
        if [_identity(each) for each in self._paths] != self._identities:
            return FILE_REMOVED
        # Read twice: the first read may overlap a write to the header.
        self._overwritten = self._overwritten or (self._is_other() and self._is_other())
        return FILE_OVERWRITTEN if self._overwritten else None

    def first(self, query: Select[Any], values: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the first row of a query by a unique key, or None. Takes microseconds.

        Raises ``sqlite3.Error``, without waiting if the database is locked; in WAL mode, writers do
        not lock out readers.
        """
        statement, names = _compiled(query)
        # Fetch all rows: an unfinished statement would hold its snapshot, and the WAL would grow.
        rows = self._anchor.execute(statement, values).fetchall()
        return dict(zip(names, rows[0], strict=True)) if rows else None

    def condemn(self) -> None:
        """SQLite itself found the file damaged."""
        self._overwritten = True

    def close(self) -> None:
        """Call when all other connections are closed."""
        self._anchor.close()
        os.close(self._descriptor)

    def _identified(self) -> int:
        """The random number in the header that tells this database from every other."""
        identifier = self._anchor.execute("PRAGMA application_id").fetchone()[0]
        if not identifier:
            identifier = 1 + secrets.randbelow(2**31 - 1)
            self._anchor.execute(f"PRAGMA application_id={identifier}")
        self._anchor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return identifier & 0xFFFFFFFF

    def _header(self) -> bytes:
        return os.pread(self._descriptor, HEADER_BYTES, 0)

    def _is_other(self) -> bool:
        header = self._header()
        # An older copy of this database has a lower change counter.
        if (
            header[: len(SQLITE_MAGIC)] != SQLITE_MAGIC
            or header[APPLICATION_ID] not in self._ids
            or header[CHANGE_COUNTER] < self._counter
        ):
            return True
        self._counter = header[CHANGE_COUNTER]
        return False


@functools.cache
def _compiled(query: Select[Any]) -> tuple[str, Sequence[str]]:
    """Return the text of a query for SQLite, and the names of its columns."""
    text = str(query.compile(dialect=sqlite.dialect(paramstyle="named")))
    return text, query.selected_columns.keys()


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
