"""Reserves disk space for the job database, which cannot even delete a row on a full disk.

Half of the reserve is a ballast file beside the database, so that other programs cannot use that
space. It is removed when the disk is full, and created again when there is enough space.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.system.private import FILE_MODE

logger = logging.getLogger(__name__)

SUFFIX = "-reserve"
# With less free than this fraction of the reserve, the next transaction might fail.
LAST_SHARE = 64


class DiskFullError(OSError):
    """Raised for a file that would leave the job database too little space."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


class DiskReserve:
    """Keeps ``size`` bytes free on the disk of an SQLite database, half of them as a file.

    Several processes may share the database and the file, so the state is read from the disk.
    """

    def __init__(self, database: Path, size: int):
        self._file = database.with_name(database.name + SUFFIX)
        self._size, self._ballast = size, size // 2
        self._writing = 0
        self._was_short = False

    def guard(self) -> None:
        """Remove the ballast file when the disk is full. Takes microseconds."""
        if self._free() < self._size // LAST_SHARE:
            self.release()

    def release(self) -> None:
        with suppress(OSError):
            self._file.unlink()
            logger.warning("the disk of the job database is full: its reserve is in use")

    def short(self, size: int = 0) -> bool:
        """Return whether ``size`` more bytes would touch the reserve.

        Restores the ballast file if there is space for it.
        """
        held = self._held()
        if not held and self._free() >= self._size:
            held = self._take()
        left = self._free() + (self._ballast if held else 0) - self._writing
        self._note(left < self._size)
        return left - size < self._size

    def holds(self, folder: Path) -> bool:
        """Return whether ``folder`` is on the file system of the database."""
        return folder.stat().st_dev == self._file.parent.stat().st_dev

    @contextmanager
    def writing(self, size: int) -> Iterator[None]:
        """Reserve space while a file of ``size`` bytes is written in this block.

        Raises ``DiskFullError`` if it does not fit.
        """
        if self.short(size):
            raise DiskFullError
        self._writing += size
        try:
            yield
        finally:
            self._writing -= size

    def _take(self) -> bool:
        try:
            descriptor = os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
            try:
                os.posix_fallocate(descriptor, 0, self._ballast)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self._file.unlink()
            return False
        return True

    def _held(self) -> bool:
        try:
            return self._file.stat().st_size >= self._ballast
        except OSError:
            return False

    def _free(self) -> int:
        """Return the free bytes of the file system for this user, ignoring quotas."""
        try:
            status = os.statvfs(self._file.parent)
        except OSError:  # the folder was removed, which SqliteFile reports
            return self._size
        return status.f_bavail * status.f_frsize

    def _note(self, short: bool) -> None:
        if short != self._was_short:
            logger.warning(
                "the disk of the job database is almost full: new videos are refused"
                if short
                else "the disk of the job database has space again: new videos are accepted"
            )
        self._was_short = short
