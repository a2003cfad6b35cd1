"""Makes the picture of docs/image-to-video.md with the bundled model: frames of a video that begins
with an image, of another video, of its edit and of its extension, in four rows.

    python -m scripts.edits_picture docs/images/edits.webp
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from scripts.video_strip import GAP, HEIGHT, read_frames

EVERY = 4  # frames of the video for one of the picture
PAPER = 225
RED = "a red circle moves right on a white background"
BLUE = "a blue circle moves right on a white background"
GROWS = "a red circle grows on a white background"
SQUARE = "a yellow square moves down on a grey background"
Row = Sequence[Image.Image]


def main() -> int:
    picture = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "image.png"
        draw_square(image)
        begun = generate(folder, "begun", SQUARE, "--input-reference", image)
        source = generate(folder, "source", RED)
        edit = generate(folder, "edit", BLUE, "--input-video", source, "--strength", 0.7)
        extension = generate(folder, "extension", GROWS, "--extend", source)
        first = Image.open(image).resize((HEIGHT, HEIGHT), Image.Resampling.LANCZOS)
        rows = [shown(begun), *map(shown, (source, edit, extension))]
        sheet([[first, *rows[0]], *rows[1:]]).save(picture, lossless=True)
    print(f"edits_picture: {picture}")
    return 0


def draw_square(file: Path) -> None:
    """Save an image of 64x64 pixels with a square on the left above the middle."""
    image = Image.new("RGB", (256, 256), (128, 128, 128))
    ImageDraw.Draw(image).rectangle((50, 40, 130, 120), (240, 215, 40))
    image.resize((64, 64), Image.Resampling.BOX).save(file)


def generate(folder: Path, name: str, prompt: str, *flags: object) -> Path:
    """Return the video that ``triton-video generate`` makes from ``prompt`` and ``flags``."""
    words = ["--prompt", prompt, "--seed", 7, "--output-path", folder, *flags]
    words += ["--output-file-name", f"{name}.mp4"]
    subprocess.run([sys.executable, "-m", "cli", "generate", *map(str, words)], check=True)
    return folder / f"{name}.mp4"


def shown(video: Path) -> Row:
    """Return the frames of ``video`` that the picture shows."""
    return read_frames(video)[::EVERY]


def sheet(rows: Sequence[Row]) -> Image.Image:
    """Return ``rows`` of frames of one size below each other, on light grey."""
    width, height = rows[0][0].size
    columns = max(map(len, rows))
    size = (columns * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP)
    whole = Image.new("RGB", size, (PAPER, PAPER, PAPER))
    for row, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            whole.paste(frame, (column * (width + GAP), row * (height + GAP)))
    return whole


if __name__ == "__main__":
    sys.exit(main())
