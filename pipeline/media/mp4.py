"""Encode frames as an MP4 file (H.264, yuv420p, faststart), one frame at a time."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import av
import numpy as np

RELIABLE_SIDE = 128
"""Smallest side in pixels of frames that libx264's macroblock tree encodes the same each time."""


class Mp4Writer:
    """Encode frames as they arrive. The file never touches a disk and ends with the process.

    FFmpeg's ``faststart`` opens its output a second time to move the index to the front. That needs
    a path: an anonymous memory file has one under ``/proc``, an in-memory file object has none.
    """

    def __init__(self, width: int, height: int, fps: int):
        self._file = os.memfd_create("triton-video.mp4")
        path = f"/proc/self/fd/{self._file}"
        try:
            self._container = av.open(path, "w", format="mp4", options={"movflags": "+faststart"})
        except av.FFmpegError:
            os.close(self._file)
            raise
        options = {"preset": "veryfast", "crf": "18"}
        if min(width, height) < RELIABLE_SIDE:
            options["x264-params"] = "mbtree=0"
        self._stream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def add(self, frames: np.ndarray) -> None:
        """Encode the next frames: uint8 (t, H, W, 3), sRGB."""
        for frame in frames:
            self._container.mux(
                self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
            )

    def finish(self) -> bytes:
        """Finish the MP4 file and return its bytes."""
        self._container.mux(self._stream.encode())
        self._container.close()
        # One pread returns at most 2 GiB; a file object reads in a loop.
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
