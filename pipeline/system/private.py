"""Folders and files that only their user may read: prompts, videos and weights are private."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600
GROUP_AND_OTHERS = 0o077


def private_folder(folder: Path) -> bool:
    """Create ``folder`` with mode 0700, whatever the umask, and return whether it was created.

    Missing parents get the usual mode. A folder that exists keeps its mode. Raises ``OSError``.
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
    """Create an empty file with mode 0600, or take other users' access from an existing one.

    Raises ``OSError``. Only the mode of an existing file is touched; it is never opened.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        tighten(path)


def tighten(path: Path) -> bool:
    """Take group's and others' access from a path of this user, and return whether it had any.

    Does nothing to what belongs to another user, to symbolic links and to sticky folders.
    """
    status = path.lstat()
    mine = status.st_uid == os.getuid() and not path.is_symlink() and not status.st_mode & 0o1000
    if not mine or not status.st_mode & GROUP_AND_OTHERS:
        return False
    path.chmod(status.st_mode & 0o7700)
    return True
