"""Writes the output files: completely or not at all, and never over another file by accident."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from cli.output.linking import link_all
from cli.params.file_names import EXTENSION, numbered, shortened, slug, stem_of
from cli.params.groups import OutputGroup
from pipeline.byte_sizes import human_size
from pipeline.errors import OutputError
from pipeline.system.private import FILE_MODE

FRAMES = ".npy"
NPY_HEADER = 128
# An MP4 is at most as large as its raw 4:2:0 frames and this.
MP4_OVERHEAD = 64 << 10
Writer = Callable[[BinaryIO], object]


class Destination:
    """The folder and names of one run's files.

    A context manager: entering creates the folder and checks that it can be written, and leaving
    removes the folder if it was created and is empty. Raises ``OutputError``.
    """

    def __init__(self, params: OutputGroup, prompt: str):
        self.folder = params.output_path
        self._name = params.output_file_name
        self._stem = stem_of(self._name) if self._name else slug(prompt)
        self._extensions = [self._video, FRAMES] if params.return_frames else [self._video]
        self._overwrite = params.overwrite and self._name is not None
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        try:
            self._make_folder()
            self._require_writable()
            self._require_free()
        except BaseException:
            self._unmake_folder()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unmake_folder()

    def require_space(self, frames: int, height: int, width: int) -> None:
        """Raise ``OutputError`` if the disk has less free space than the files may take."""
        pixels = frames * height * width
        need = pixels * 3 // 2 + MP4_OVERHEAD
        if FRAMES in self._extensions:
            need += NPY_HEADER + pixels * 3
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise OutputError(
                f"{self.folder} has {human_size(free)} free, "
                f"and the output may take {human_size(need)}"
            )

    def write(self, video: bytes, frames: Writer | None) -> tuple[Path, Path | None]:
        """Write the files under one stem and return their paths.

        If the name was taken since the start, the files get the next free one: no file is lost or
        replaced.
        """
        contents: dict[str, Writer] = {self._video: lambda file: file.write(video)}
        if frames is not None:
            contents[FRAMES] = frames
        try:
            with self._temporary(contents) as parts:
                paths = self._publish(parts)
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder}: {error.strerror or error}"
            ) from error
        return paths[self._video], paths.get(FRAMES)

    @property
    def _video(self) -> str:
        """The video's extension, in upper or lower case as the user wrote it."""
        return Path(self._name).suffix if self._name else EXTENSION

    def _make_folder(self) -> None:
        try:
            missing = itertools.takewhile(
                lambda folder: not folder.exists(), (self.folder, *self.folder.parents)
            )
            for folder in reversed(list(missing)):
                folder.mkdir(exist_ok=True)
                self._made.append(folder)
            if not self.folder.is_dir():
                raise OutputError(f"{self.folder} is not a folder")
        except OSError as error:
            raise OutputError(
                f"the folder {self.folder} cannot be created: {error.strerror}"
            ) from None

    def _unmake_folder(self) -> None:
        """Remove the folders that were created, unless a run stored its files there."""
        with contextlib.suppress(OSError):
            while self._made:
                self._made.pop().rmdir()

    def _require_writable(self) -> None:
        # Permissions do not show read-only file systems, quotas or root.
        probe = self._part_path(EXTENSION)
        try:
            probe.open("xb").close()
        except OSError as error:
            raise OutputError(
                f"the folder {self.folder} cannot be written to: {error.strerror}"
            ) from None
        probe.unlink()

    def _require_free(self) -> None:
        if self._name is None:
            return
        for path in (self.folder / (self._stem + extension) for extension in self._extensions):
            if self._overwrite and path.is_dir():
                raise OutputError(f"{path} is a folder")
            if not self._overwrite and os.path.lexists(path):
                raise OutputError(
                    f"{path} exists; choose another --output-file-name, or --overwrite it"
                )

    @contextlib.contextmanager
    def _temporary(self, contents: Mapping[str, Writer]) -> Iterator[dict[str, Path]]:
        """Write the contents to temporary files in the same folder; they are removed at the end."""
        parts = {extension: self._part_path(extension) for extension in contents}
        try:
            for extension, writer in contents.items():
                with open(parts[extension], "xb", opener=_private) as file:
                    writer(file)
                    file.flush()
                    # Some file systems report a full disk only here.
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o666 & ~_umask())
            yield parts
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)

    def _publish(self, parts: Mapping[str, Path]) -> dict[str, Path]:
        number = 1
        while True:
            stem = self._stem if number == 1 and self._name else numbered(self._stem, number)
            paths = {extension: self.folder / (stem + extension) for extension in parts}
            if self._overwrite:
                for extension, part in parts.items():
                    part.replace(paths[extension])
                return paths
            if link_all([(parts[extension], paths[extension]) for extension in parts]):
                return paths
            number += 1

    def _part_path(self, extension: str) -> Path:
        # Hidden, in the same folder (a move between file systems is not atomic), and shortened to
        # leave space for the suffix.
        return self.folder / f".{shortened(self._stem, 200)}{extension}.part-{secrets.token_hex(4)}"


def _private(path: str, flags: int) -> int:
    """Open a temporary file for this user only; it gets its final mode once complete."""
    return os.open(path, flags, FILE_MODE)


def _umask() -> int:
    """Return the umask of this process; ``os.umask`` would change it for all threads."""
    found = re.search(
        r"^Umask:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE
    )
    assert found is not None
    return int(found[1], 8)
