"""A picture of a video: some of its frames side by side, as ``frame_strip.py VIDEO.mp4
PICTURE.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

COLUMNS = 5
MIN_HEIGHT = 160
GAP = 4


def read_frames(video: Path) -> np.ndarray:
    """All frames of ``video`` as uint8 (T, H, W, 3)."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def strip(frames: np.ndarray) -> Image.Image:
    """``COLUMNS`` evenly spaced frames, first and last among them, enlarged by a whole factor to
    ``MIN_HEIGHT``.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]
    factor = max(1, -(-MIN_HEIGHT // chosen.shape[1]))
    tiles = [np.kron(frame, np.ones((factor, factor, 1), np.uint8)) for frame in chosen]
    gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
    return Image.fromarray(
        np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    )


def main() -> None:
    video, picture = map(Path, sys.argv[1:])
    picture.parent.mkdir(parents=True, exist_ok=True)
    strip(read_frames(video)).save(picture, optimize=True)
    print(f"frame_strip: {picture}")


if __name__ == "__main__":
    main()
