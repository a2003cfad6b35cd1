"""Gives finished files their names without ever replacing a file."""

from __future__ import annotations

import os
from pathlib import Path


def link_all(moves: list[tuple[Path, Path]]) -> bool:
    """Rename all files, or none: returns False if one of the names is taken."""
    done: list[Path] = []
    try:
        for part, path in moves:
            _link(part, path)
            done.append(path)
    except BaseException as error:
        for path in done:
            path.unlink()
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def _link(part: Path, path: Path) -> None:
    """Rename a file. Raises ``FileExistsError`` where a rename would replace a file."""
    try:
        os.link(part, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network folders): reserve the name with an empty file, then
        # replace that by a rename.
        path.open("xb").close()
        try:
            part.replace(path)
        except BaseException:
            path.unlink()
            raise
