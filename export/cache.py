"""The cache on disk: folders named after what they were made from, each whole or not there at
all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import OutputError
from pipeline.system.private import FOLDER_MODE, private_folder, tighten

ROOT = Path(__file__).resolve().parent.parent
NAME = "triton-video"
EXPORTERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


class Claim:
    """A folder of the cache that is to be made by whoever gets its lock first; the lock ends
    with its process.
    """

    def __init__(self, target: Path):
        self.target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(target.parent / f"{target.name}.lock")

    def acquire(self, *, wait: bool) -> Path | None:
        """A private folder to fill and `publish`; None when ``target`` is there, or with
        ``wait`` off is in work.
        """
        try:
            self._lock.acquire(blocking=wait)
        except Timeout:
            return None
        if self.target.exists():
            self._lock.release()
            return None
        # Whoever held the lock before and left a part behind is dead.
        for stale in self.target.parent.glob(f".{self.target.name}-*"):
            shutil.rmtree(stale)
        return Path(tempfile.mkdtemp(prefix=f".{self.target.name}-", dir=self.target.parent))

    def publish(self, folder: Path) -> None:
        """``folder`` becomes ``target``."""
        folder.chmod(FOLDER_MODE)
        folder.rename(self.target)
        self._lock.release()

    def give_up(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._lock.release()


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """A private folder that becomes ``target`` when the block ends well; ``None`` when
    ``target`` is there already.
    """
    claim = Claim(target)
    folder = claim.acquire(wait=True)
    if folder is None:
        yield None
        return
    try:
        yield folder
        claim.publish(folder)
    except BaseException:
        claim.give_up(folder)
        raise


def cache_folder() -> Path:
    """``$TRITON_VIDEO_CACHE``, or ``triton-video`` in the user's cache folder.

    Raises ``OutputError`` where the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    given = os.environ.get("TRITON_VIDEO_CACHE") or f"{base}/{NAME}"
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise OutputError(
            "this user has no home folder; set TRITON_VIDEO_CACHE to a writable folder"
        ) from None


def open_cache(folder: Path | None = None) -> Path:
    """The cache folder, created for its user only; ``folder`` instead of the usual one.

    One that exists under the usual name is made private: an earlier version may have created it.
    Raises ``OSError``.
    """
    folder = folder or cache_folder()
    if not private_folder(folder) and folder.name == NAME:
        tighten(folder)
    return folder


def link(source: Path, target: Path) -> None:
    """``target`` is the same file as ``source`` where the file system can, else a copy."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def key(*parts: str) -> str:
    """A name for what is made from ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each of the packages that is there."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def source_hash(*folders: str) -> str:
    """Our own code is part of a key: an upgrade, or an edit while developing, makes anew."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
