"""The cache on disk: folders named after what they were made from, each complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.system.cache_folder import NAME, cache_folder
from pipeline.system.own_modules import FOLDER
from pipeline.system.private import FOLDER_MODE, private_folder, tighten

EXPORTERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


class Claim:
    """A folder of the cache that one process makes: the first that takes its lock. The lock ends
    with the process.
    """

    def __init__(self, target: Path):
        self.target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(target.parent / f"{target.name}.lock")

    def acquire(self, *, wait: bool) -> Path | None:
        """Return a private folder to fill and `publish`, or None if ``target`` exists.

        Without ``wait``, None also means that another process is making it.
        """
        try:
            self._lock.acquire(blocking=wait)
        except Timeout:
            return None
        if self.target.exists():
            self._lock.release()
            return None
        # The process that held the lock before and left this behind has ended.
        for stale in self.target.parent.glob(f".{self.target.name}-*"):
            shutil.rmtree(stale)
        return Path(tempfile.mkdtemp(prefix=f".{self.target.name}-", dir=self.target.parent))

    def publish(self, folder: Path) -> None:
        """Rename ``folder`` to ``target`` and release the lock."""
        folder.chmod(FOLDER_MODE)
        folder.rename(self.target)
        self._lock.release()

    def give_up(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._lock.release()


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yield a private folder that becomes ``target`` when the block succeeds, or None if ``target``
    exists.
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


def open_cache(folder: Path | None = None) -> Path:
    """Create the cache folder for its user only and return it; ``folder`` replaces the default.

    An existing folder with the default name is made private, because an earlier version may have
    created it. Raises ``OSError``.
    """
    folder = folder or cache_folder()
    if not private_folder(folder) and folder.name == NAME:
        tighten(folder)
    return folder


def link(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy where hard links are impossible."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def key(*parts: str) -> str:
    """Return a folder name derived from ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each of the packages that is installed."""
    found: dict[str, str] = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def source_hash(*folders: str) -> str:
    """Hash the project's own code below ``folders``, so that an upgrade or an edit makes things
    anew.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((FOLDER / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
