"""Frames become a thumbnail and a spritesheet."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from pipeline.families.family import MAX_FRAMES, MAX_SIDE
from pipeline.media.previews import MAX_GRID, THUMBNAIL_SIDE, TILE_SIDE, Previews

WEBP_LIMIT = 16383
LOSS = 4  # of 255, in a flat image


def clip(frames: int, height: int, width: int) -> np.ndarray:
    """Return frames of one shade each, from dark to bright, so that a tile shows which frame it
    holds.
    """
    shades = np.linspace(20, 235, frames).astype(np.uint8)
    return np.broadcast_to(shades[:, None, None, None], (frames, height, width, 3))


def made(frames: np.ndarray, chunk: int = 4) -> tuple[bytes, bytes]:
    """Return thumbnail and spritesheet of frames that arrive as from the decoder: one, then
    ``chunk`` at a time.
    """
    total, height, width, _ = frames.shape
    images = Previews(width, height, total)
    for start, end in pairwise([0, *range(1, total, chunk), total]):
        images.add(frames[start:end])
    return images.finish()


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    assert image.format == "WEBP"
    return image


def shades(image: Image.Image, grid: int) -> list[float]:
    """Return the mean of each tile, row by row."""
    pixels = np.asarray(image.convert("L"), float)
    rows, columns = np.array(pixels.shape) // grid
    return list(pixels.reshape(grid, rows, grid, columns).mean(axis=(1, 3)).flat)


@pytest.mark.parametrize("total", [1, 2, 5, 17, 81])
def test_the_thumbnail_is_the_middle_frame(total: int) -> None:
    frames = clip(total, 32, 48)
    thumbnail, _ = made(frames)
    image = opened(thumbnail)
    assert image.size == (48, 32), "no frame is enlarged"
    assert shades(image, 1) == pytest.approx([frames[total // 2].mean()], abs=LOSS)


@pytest.mark.parametrize(
    ("total", "grid"),
    [(1, 1), (3, 1), (5, 2), (9, 3), (17, 4), (21, 4), (25, 5), (81, 5), (MAX_FRAMES, 5)],
)
def test_the_spritesheet_is_a_full_square_of_evenly_spaced_frames(total: int, grid: int) -> None:
    frames = clip(total, 32, 48)
    _, sheet = made(frames)
    image = opened(sheet)
    assert image.size == (48 * grid, 32 * grid)
    tiles = grid * grid
    shown = [i * (total - 1) // max(1, tiles - 1) for i in range(tiles)]
    assert len(set(shown)) == tiles
    assert grid == 1 or (shown[0], shown[-1]) == (0, total - 1)
    assert shades(image, grid) == pytest.approx([float(frames[i].mean()) for i in shown], abs=LOSS)


def test_tiles_keep_their_place_and_colour() -> None:
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], np.uint8)
    _, sheet = made(np.broadcast_to(colours[:, None, None], (4, 64, 64, 3)))
    pixels = np.asarray(opened(sheet).convert("RGB"), int)
    corners = pixels[[32, 32, 96, 96], [32, 96, 32, 96]]
    assert np.abs(corners - colours).max() < 30, (
        "the first tile is at the top left, the second right of it"
    )


@pytest.mark.parametrize(
    ("width", "height"), [(832, 480), (480, 832), (1280, 16), (MAX_SIDE, MAX_SIDE), (MAX_SIDE, 1)]
)
def test_previews_stay_below_the_size_limit_of_webp(width: int, height: int) -> None:
    """Whatever the size of the video, both files stay far below the largest side of WebP."""
    images = Previews(width, height, 25)
    for _ in range(25):
        images.add(np.zeros((1, height, width, 3), np.uint8))
    thumbnail, sheet = map(opened, images.finish())
    assert max(thumbnail.size) == THUMBNAIL_SIDE
    assert max(sheet.size) == MAX_GRID * TILE_SIDE < WEBP_LIMIT
    for image in (thumbnail, sheet):
        assert min(image.size) >= 1
        assert min(image.size) <= 10 or image.width / image.height == pytest.approx(
            width / height, rel=0.01
        )


def test_the_same_frames_give_the_same_files() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (17, 80, 64, 3), np.uint8)
    assert made(frames) == made(frames, chunk=2)


def test_missing_frames_are_an_error() -> None:
    images = Previews(32, 32, 5)
    images.add(clip(4, 32, 32))
    with pytest.raises(AssertionError, match="4 of 5 frames"):
        images.finish()
