"""Pictures: a contact sheet of clips, for a person to look at, and an image that begins a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from models.recipe.scene import Scene, render
from models.recipe.train_dit import SIZE

MARGIN = 4
CLIPS_PER_ROW = 6
PAPER, RIGHT, WRONG = (200, 200, 200), (60, 160, 60), (220, 30, 30)


def save_contact_sheet(path: Path, clips: Sequence[np.ndarray], right: Sequence[bool]) -> None:
    """Save the first, middle and last frame of each clip.

    ``clips`` are uint8 (T, H, W, 3) of one size; those judged wrong get a red frame, the others a
    green one.
    """
    cells = [_cell(clip, RIGHT if good else WRONG) for clip, good in zip(clips, right, strict=True)]
    blank = np.full_like(cells[0], PAPER)
    cells += [blank] * (-len(cells) % CLIPS_PER_ROW)
    rows = [
        np.concatenate(cells[i : i + CLIPS_PER_ROW], axis=1)
        for i in range(0, len(cells), CLIPS_PER_ROW)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.concatenate(rows))


def first_frame(scene: Scene) -> bytes:
    """Return a PNG file of the first frame of a scene, in the native size of the bundled model."""
    frame = render([scene], 1, SIZE, SIZE)[0, :, 0].permute(1, 2, 0).numpy()
    return iio.imwrite("<bytes>", ((frame + 1) * 127.5).round().astype(np.uint8), extension=".png")


def _cell(clip: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    strip = np.concatenate([clip[0], clip[len(clip) // 2], clip[-1]], axis=1)
    framed = np.full((strip.shape[0] + 4, strip.shape[1] + 4, 3), colour, np.uint8)
    framed[2:-2, 2:-2] = strip
    return np.pad(framed, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=PAPER[0])
