"""Put videos side by side as one animated WebP: ``video_strip.py ANIMATION.webp VIDEO.mp4 ...``."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

HEIGHT = 160
GAP = 6
FRAME_MS = 125
LAST_FRAME_MS = 800  # shows the end of each motion before the loop begins again


def read_frames(video: Path) -> list[Image.Image]:
    """Return all frames of ``video``, scaled to ``HEIGHT``."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    width = round(frames[0].width * HEIGHT / frames[0].height)
    return [frame.resize((width, HEIGHT), Image.Resampling.LANCZOS) for frame in frames]


def side_by_side(frames: tuple[Image.Image, ...]) -> Image.Image:
    """Return ``frames`` in one row, with white gaps between them."""
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    row = [part for frame in frames for part in (np.asarray(frame), gap)][:-1]
    return Image.fromarray(np.concatenate(row, axis=1))


def main() -> None:
    animation, *videos = map(Path, sys.argv[1:])
    strip = [side_by_side(frames) for frames in zip(*map(read_frames, videos), strict=False)]
    animation.parent.mkdir(parents=True, exist_ok=True)
    strip[0].save(
        animation,
        save_all=True,
        append_images=strip[1:],
        duration=[FRAME_MS] * (len(strip) - 1) + [LAST_FRAME_MS],
        loop=0,
        quality=80,
        method=6,
    )
    print(f"video_strip: {animation}")


if __name__ == "__main__":
    main()
