"""Create folders and files that only their user may read, for prompts, videos and weights."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600
GROUP_AND_OTHERS = 0o077


def private_folder(folder: Path) -> bool:
    """Create ``folder`` with mode 0700, whatever the umask, and return whether it was created.

    Missing parents get the default mode. An existing folder keeps its mode. Raises ``OSError``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    folder.chmod(FOLDER_MODE)
    return True


def private_file(path: Path) -> None:
    """Create an empty file with mode 0600, or remove other users' access to an existing one.

    Only the mode of an existing file changes; it is never opened. Raises ``OSError``.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        tighten(path)


def kept_secret(path: Path, new: str) -> str:
    """Return the text of a private file; it gets the text ``new`` if it is missing or blank.

    It is written whole or not at all, and of several processes that create it at once all return
    the text of the first. Raises ``OSError``.
    """
    blank = path.exists()
    if blank:
        tighten(path)
        blank = not _text_of(path)  # as a power cut may leave it
    if blank or not path.exists():
        draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        private_file(draft)
        try:
            draft.write_text(new, encoding="utf-8")
            if blank:
                draft.replace(path)
            else:
                with contextlib.suppress(FileExistsError):
                    path.hardlink_to(draft)
        finally:
            draft.unlink(missing_ok=True)
    return _text_of(path)


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def tighten(path: Path) -> bool:
    """Remove access for group and others from a path, and return whether there was any.

    Leaves paths of other users, symbolic links and sticky folders unchanged.
    """
    status = path.lstat()
    mine = status.st_uid == os.getuid() and not path.is_symlink() and not status.st_mode & 0o1000
    if not mine or not status.st_mode & GROUP_AND_OTHERS:
        return False
    path.chmod(status.st_mode & 0o7700)
    return True
