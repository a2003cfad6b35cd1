"""Frames to an MP4 file (H.264, yuv420p, faststart), a frame at a time."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import av
import numpy as np


class Mp4Writer:
    """Encode frames as they come; the file never touches a disk and vanishes with the process.

    FFmpeg's ``faststart`` opens its output a second time to move the index to the front, so an
    in-memory file object will not do: an anonymous memory file with a path under ``/proc`` will.
    """

    def __init__(self, width: int, height: int, fps: int):
        self._file = os.memfd_create("triton-video.mp4")
        path = f"/proc/self/fd/{self._file}"
        try:
            self._container = av.open(path, "w", format="mp4", options={"movflags": "+faststart"})
        except av.FFmpegError:
            os.close(self._file)
            raise
        self._stream = self._container.add_stream(
            "libx264", rate=fps, options={"preset": "veryfast", "crf": "18"}
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def add(self, frames: np.ndarray) -> None:
        """uint8 (t, H, W, 3), sRGB."""
        for frame in frames:
            self._container.mux(
                self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
            )

    def finish(self) -> bytes:
        """Close the file and return it whole."""
        self._container.mux(self._stream.encode())
        self._container.close()
        # One pread gives at most 2 GiB.
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._container.close()
        finally:
            os.close(self._file)
