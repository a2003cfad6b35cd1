"""Neighbouring tiles are blended; the expected values are computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.decoders import Tiling
from pipeline.decoders.tiling import fade


def test_tile_end_fades_into_the_start_of_the_next() -> None:
    before, tile = np.array([0, 0, 10, 20, 30, 40.0]), np.array([100, 200, 300, 400, 500.0])
    fade(before, tile, 4, 0)
    assert tile.tolist() == [10, 0.75 * 20 + 50, 0.5 * 30 + 150, 0.25 * 40 + 300, 500]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_the_given_axis_is_blended(axis: int) -> None:
    before, tile = np.zeros((4, 4, 4)), np.ones((4, 4, 4))
    fade(before, tile, 2, axis)
    along = tile[tuple(slice(None) if each == axis else 3 for each in range(3))]
    assert along.tolist() == [0, 0.5, 1, 1]
    assert (np.moveaxis(tile, axis, 0)[1] == 0.5).all()


@pytest.mark.parametrize(("before", "tile"), [(2, 5), (5, 2)])
def test_overlap_is_limited_to_the_shorter_tile(before: int, tile: int) -> None:
    mixed = np.ones(tile)
    fade(np.zeros(before), mixed, 4, 0)
    assert mixed.tolist() == [0, 0.5, 1, 1, 1][:tile]


def test_zero_overlap_changes_nothing() -> None:
    tile = np.ones(4)
    fade(np.zeros(4), tile, 0, 0)
    assert tile.tolist() == [1, 1, 1, 1]


def test_pixels_of_a_patch_share_a_weight() -> None:
    tile = np.ones(6)
    fade(np.zeros(6), tile, 6, 0, patch=2)
    np.testing.assert_allclose(tile, [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_tiles_are_blended_vertically_and_horizontally() -> None:
    """Two by two tiles of four pixels with a stride of two; each has one value."""
    tiles = [
        [np.full((1, 4, 4, 3), value, np.float32) for value in line] for line in ((0, 8), (16, 32))
    ]
    frame = Tiling(4, 4, 2, 2, cell=1).join(tiles)[0, :, :, 0]
    assert frame.tolist() == [[0, 0, 0, 4], [0, 0, 0, 4], [0, 0, 0, 2], [8, 8, 8, 13]]


def test_default_patch_is_one_pixel() -> None:
    assert Tiling(4, 4, 2, 2, cell=1).patch == 1


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(4, 6, 2, 2), (5, 9, 2, 3)])
def test_grid_starts_a_tile_at_every_stride(
    height: int, width: int, rows: int, columns: int
) -> None:
    grid = Tiling(32, 48, 24, 32, cell=8).grid(height, width)
    assert (len(grid), {len(line) for line in grid}) == (rows, {columns})
    down, across = grid[-1][-1]
    assert (down.start, down.stop) == (3, height)
    assert (across.start, across.stop) == (4 * (columns - 1), width)
    assert grid[0][0] == (slice(0, min(4, height)), slice(0, 6))
