"""A folder that appears whole or not at all: it is filled beside its place, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import OutputError

AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextlib.contextmanager
def placing(output: Path, *, replace: bool, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a private folder that becomes ``output`` when the block succeeds and is removed when it
    fails.

    With ``replace`` it takes the place of an existing folder that ``is_ours`` accepts; nothing else
    is ever deleted. Folders that killed runs left behind are removed. Raises ``OutputError``.
    """
    require_place(output, replace=replace, is_ours=is_ours)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _sweep(output)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None
    try:
        with _held(folder):
            yield folder
            folder.chmod(0o755)
            _move(folder, output, replace=replace)
    finally:
        # After an exchange this is the former folder.
        shutil.rmtree(folder, ignore_errors=True)


def require_place(output: Path, *, replace: bool, is_ours: Callable[[Path], bool]) -> None:
    """Raise ``OutputError`` if something at ``output`` must not be replaced."""
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not replace:
        raise OutputError(f"{output} exists; choose another --output, or --overwrite it")
    if not is_ours(output):
        raise OutputError(
            f"{output} is not an exported repository, so it is not replaced; "
            "choose another --output"
        )


def _move(folder: Path, output: Path, *, replace: bool) -> None:
    try:
        if not output.exists() or not any(output.iterdir()):
            folder.rename(output)
        elif replace:
            _exchange(folder, output)
        else:
            raise OutputError(
                f"{output} was made by another program meanwhile; choose another --output"
            )
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from None


def _exchange(folder: Path, output: Path) -> None:
    """Swap the two folders in one step, or in two where the file system cannot."""
    names = (AT_FDCWD, os.fsencode(folder), AT_FDCWD, os.fsencode(output))
    if ctypes.CDLL(None, use_errno=True).renameat2(*names, RENAME_EXCHANGE) == 0:
        return
    former = folder.with_name(f"{folder.name}-former")
    output.rename(former)
    folder.rename(output)
    shutil.rmtree(former)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder while its maker is alive; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(output: Path) -> None:
    for stale in output.parent.glob(f".{output.name}-*"):
        handle = os.open(stale, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(stale)
        finally:
            os.close(handle)
