"""Make a video's thumbnail and spritesheet, both WebP, from the frames as they arrive.

The finished video does not have to be decoded for them.
"""

from __future__ import annotations

import io
from math import isqrt
from typing import Any

import numpy as np
from PIL import Image

# Sharp in a list or a player of usual size, and small enough to load many of them. Frames are
# never enlarged.
THUMBNAIL_SIDE = 512
# Each tile is a preview above a seek bar. With at most 5 tiles per side, the sheet stays within 800
# pixels per side, far below WebP's limit of 16383, and the memory it needs while decoding does not
# grow with the video.
TILE_SIDE, MAX_GRID = 160, 5
# The fastest of WebP's seven methods. The slowest makes the files a tenth smaller and takes ten
# times as long.
WEBP_OPTIONS = {"format": "WEBP", "quality": 80, "method": 0}


# Of a video that is being denoised: as large as a phone shows it, and sent about once a second.
PREVIEW_SIDE, MAX_PREVIEW_BYTES = 256, 20_000
PREVIEW_QUALITIES = (80, 40, 0)


class Previews:
    """Takes all frames in order and keeps scaled copies of those that the previews show.

    The thumbnail is the middle frame: it shows the motion, which the first frame often does not
    yet. The spritesheet is a full square of n x n tiles, n = min(5, isqrt(num_frames)), row by row.
    Tile i shows frame i * (num_frames - 1) // (n * n - 1), so the first tile shows the first frame
    and the last tile the last one.
    """

    def __init__(self, width: int, height: int, num_frames: int):
        self._num_frames = num_frames
        self._thumbnail = Image.new("RGB", _fit(width, height, THUMBNAIL_SIDE))
        self._tile = _fit(width, height, TILE_SIDE)
        self._grid = min(MAX_GRID, isqrt(num_frames))
        self._sheet = Image.new("RGB", (self._grid * self._tile[0], self._grid * self._tile[1]))
        tiles = self._grid**2
        self._tile_of = {i * (num_frames - 1) // max(1, tiles - 1): i for i in range(tiles)}
        self._seen = 0

    def add(self, frames: np.ndarray) -> None:
        """Add the next frames: uint8 (t, H, W, 3), sRGB."""
        for index, frame in enumerate(frames, start=self._seen):
            if index == self._num_frames // 2:
                self._thumbnail = _resized(frame, self._thumbnail.size)
            if index in self._tile_of:
                row, column = divmod(self._tile_of[index], self._grid)
                self._sheet.paste(
                    _resized(frame, self._tile), (column * self._tile[0], row * self._tile[1])
                )
        self._seen += len(frames)

    def finish(self) -> tuple[bytes, bytes]:
        """Return the thumbnail and the spritesheet as WebP files. All frames must be added."""
        assert self._seen == self._num_frames, (
            f"{self._seen} of {self._num_frames} frames were added"
        )
        return _webp(self._thumbnail), _webp(self._sheet)


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size with the same aspect ratio whose longer side is at most ``side`` pixels.

    It is never larger than the original, and each side is at least 1.
    """
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    # A coarse reduction to twice the size first halves the time without a visible difference.
    return Image.fromarray(frame).resize(size, reducing_gap=2.0)


def small_webp(frame: np.ndarray) -> bytes:
    """Return ``frame``, uint8 (H, W, 3), as a WebP file of at most ``MAX_PREVIEW_BYTES`` bytes: the
    noise of early steps gets a lower quality.
    """
    height, width, _ = frame.shape
    image = _resized(frame, _fit(width, height, PREVIEW_SIDE))
    files = (_webp(image, quality=quality) for quality in PREVIEW_QUALITIES)
    return next(file for file in files if len(file) <= MAX_PREVIEW_BYTES)


def _webp(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **{**WEBP_OPTIONS, **options})
    return file.getvalue()
