"""Split a frame into overlapping tiles, and join decoded tiles into one frame. Both follow
diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError

Place = tuple[slice, slice]


@dataclass(frozen=True)
class Tiling:
    """Sides of a tile and strides between tiles, in pixels; `cell` is the side of a latent cell in
    pixels.

    ``patch`` is the side of the VAE's own patches, whose pixels share a weight where tiles overlap.
    Raises InputError for sizes that leave gaps or are not multiples of a cell.
    """

    height: int
    width: int
    stride_height: int
    stride_width: int
    cell: int
    patch: int = 1

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            size, stride = getattr(self, side), getattr(self, f"stride_{side}")
            for name, value in (
                (f"tile_sample_min_{side}", size),
                (f"tile_sample_stride_{side}", stride),
            ):
                if value < self.cell or value % self.cell:
                    raise InputError(
                        f"vae_config.{name}", f"{value} should be a multiple of {self.cell}"
                    )
            if stride > size:
                raise InputError(
                    f"vae_config.tile_sample_stride_{side}",
                    f"{stride} leaves gaps between tiles of {size}",
                )

    def cuts(self, height: int, width: int) -> bool:
        """Return whether latents of ``height`` x ``width`` cells need more than one tile."""
        return height * self.cell > self.height or width * self.cell > self.width

    def grid(self, height: int, width: int) -> list[list[Place]]:
        """Return the rows of tiles: the slices of each tile in latents of ``height`` x ``width``
        cells.
        """
        return [
            [(rows, columns) for columns in self._spans(width, self.width, self.stride_width)]
            for rows in self._spans(height, self.height, self.stride_height)
        ]

    def _spans(self, cells: int, size: int, stride: int) -> list[slice]:
        return [
            slice(at, min(at + size // self.cell, cells))
            for at in range(0, cells, stride // self.cell)
        ]

    def join(self, tiles: list[list[np.ndarray]]) -> np.ndarray:
        """Join a grid of decoded tiles, each float32 [t, H, W, 3], into frames.

        Overwrites the tiles. Each tile is blended first with the one above it and then with the one
        to its left.
        """
        lines: list[np.ndarray] = []
        for y, line in enumerate(tiles):
            for x, tile in enumerate(line):
                if y:
                    fade(tiles[y - 1][x], tile, self.height - self.stride_height, 1, self.patch)
                if x:
                    fade(line[x - 1], tile, self.width - self.stride_width, 2, self.patch)
            lines.append(
                np.concatenate(
                    [tile[:, : self.stride_height, : self.stride_width] for tile in line], axis=2
                )
            )
        return np.concatenate(lines, axis=1)


def fade(before: np.ndarray, tile: np.ndarray, overlap: int, axis: int, patch: int = 1) -> None:
    """Blend the end of `before` into the beginning of `tile` with decreasing weight; every `patch`
    values share a weight.
    """
    overlap = min(before.shape[axis], tile.shape[axis], overlap)
    weights = np.arange(overlap, dtype=np.float32) // patch * patch / max(overlap, 1)
    weights = weights.reshape([-1 if axis == each else 1 for each in range(tile.ndim)])
    old = np.take(before, range(before.shape[axis] - overlap, before.shape[axis]), axis)
    new = tile[(slice(None),) * axis + (slice(0, overlap),)]
    new[:] = old * (1 - weights) + new * weights
