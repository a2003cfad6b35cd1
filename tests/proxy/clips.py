"""Small video files, made once per run."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import av
import numpy as np


@cache
def clip(
    frames: int = 9,
    size: tuple[int, int] = (64, 48),
    fps: int = 8,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    colour: int = 0,
) -> bytes:
    """Return a video file whose frames get brighter from ``colour`` on."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), (colour + 4 * number) % 256, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()
