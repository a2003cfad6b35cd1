"""Tile sizes are validated, tiles cover the latents, and each tile fades into the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.decoders import Tiling
from pipeline.errors import InputError


def tiling(**sizes: int) -> Tiling:
    values: dict[str, Any] = {
        "height": 32,
        "width": 48,
        "stride_height": 24,
        "stride_width": 32,
        "cell": 8,
        **sizes,
    }
    return Tiling(**values)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"height": 33}, "vae_config.tile_sample_min_height: 33 should be a multiple of 8"),
        ({"stride_width": 4}, "vae_config.tile_sample_stride_width: 4 should be a multiple of 8"),
        (
            {"stride_height": 40},
            "vae_config.tile_sample_stride_height: 40 leaves gaps between tiles of 32",
        ),
    ],
)
def test_invalid_tile_sizes_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        tiling(**sizes)
    assert str(caught.value) == message


def test_only_latents_larger_than_a_tile_are_tiled() -> None:
    assert not tiling().cuts(4, 6)
    assert tiling().cuts(5, 6)
    assert tiling().cuts(4, 7)


def test_tiles_cover_every_cell() -> None:
    for height in range(1, 20):
        for width in (1, 7, 13):
            seen = np.zeros((height, width))
            for line in tiling().grid(height, width):
                for place in line:
                    seen[place] += 1
            assert seen.min() >= 1


@pytest.mark.parametrize(
    ("patch", "weights"), [(1, [0, 1 / 4, 2 / 4, 3 / 4]), (2, [0, 0, 1 / 2, 1 / 2])]
)
def test_overlap_fades_in_steps_of_a_patch(patch: int, weights: list[float]) -> None:
    pair = [[np.zeros((1, 4, 8, 3), np.float32), np.ones((1, 4, 8, 3), np.float32)]]

    joined = Tiling(4, 8, 4, 4, cell=4, patch=patch).join(pair)

    assert joined.shape == (1, 4, 8, 3)
    np.testing.assert_allclose(joined[0, 0, 4:, 0], weights)
