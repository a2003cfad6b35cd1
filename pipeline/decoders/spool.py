"""Keep decoded tiles on disk, so that memory does not grow with the length of a clip."""

from __future__ import annotations

import os
import tempfile
from typing import Self

import numpy as np

from pipeline.errors import OutputError


class Spool:
    """Frames of several clips in an anonymous file, which is removed with this object or this
    process.

    The file is in ``$TMPDIR``, or in /var/tmp if that is not set, as /tmp is memory on many
    systems. Raises OutputError when the disk is full.
    """

    def __init__(self) -> None:
        folder = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - the file has no name there
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - by __exit__
        except OSError as error:
            raise OutputError(
                f"{folder}: a file for decoded tiles cannot be created: {error.strerror}"
            ) from None
        self._end = 0
        self._places: dict[int, list[int]] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, clip: int, frames: np.ndarray) -> None:
        """Append float32 `frames`, [t, ...], to a clip."""
        data = np.ascontiguousarray(frames, np.float32).data.cast("B")
        places = self._places.setdefault(clip, [])
        self._shapes[clip] = frames.shape[1:]
        size = len(data) // len(frames)
        places.extend(self._end + index * size for index in range(len(frames)))
        while data:
            try:
                written = os.pwrite(self._file.fileno(), data, self._end)
            except OSError as error:
                raise OutputError(
                    f"decoded tiles cannot be kept on disk: {error.strerror}"
                ) from None
            self._end += written
            data = data[written:]

    def read(self, clip: int, start: int, stop: int) -> np.ndarray:
        """Return the frames `start` to `stop` of a clip, float32 [stop - start, ...]."""
        frames = np.empty((stop - start, *self._shapes[clip]), np.float32)
        for frame, place in zip(frames, self._places[clip][start:stop], strict=True):
            os.preadv(self._file.fileno(), [frame.data.cast("B")], place)
        return frames
