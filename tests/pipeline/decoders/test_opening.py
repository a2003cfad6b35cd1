"""The settings of a stage select the decoder engine and its tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.decoders import open_decoder
from pipeline.errors import CheckpointError, InputError
from pipeline.settings import StageSettings
from tests import vaes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "vae").mkdir()
    vaes.build("patched", folder / "vae")
    return folder


def settings(checkpoint: Path, **values: Any) -> StageSettings:
    return StageSettings.model_validate({"checkpoint": str(checkpoint), "threads": 1, **values})


@pytest.mark.parametrize("engine", ["chunked", "tile"])
def test_the_error_names_a_graph_that_was_not_exported(
    checkpoint: Path, tmp_path: Path, engine: str
) -> None:
    file = {"chunked": "first", "tile": "tile"}[engine]
    with pytest.raises(CheckpointError, match=rf"{file}\.onnx is missing"):
        open_decoder(tmp_path, settings(checkpoint, vae_engine=engine))


def test_torch_decodes_without_graphs_with_the_requested_tiles(
    checkpoint: Path, tmp_path: Path
) -> None:
    asked = {"tile_sample_min_height": 32, "tile_sample_min_width": 48}
    decoder = open_decoder(
        tmp_path, settings(checkpoint, vae_engine="torch", vae_tiling=True, vae_config=asked)
    )
    latents = np.random.default_rng(0).standard_normal((1, decoder.channels, 2, 8, 7), np.float32)

    frames = np.concatenate(list(decoder.decode(latents)))

    strides = {"tile_sample_stride_height": 24, "tile_sample_stride_width": 32}
    expected = vaes.reference(checkpoint / "vae", latents, **asked, **strides)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-4)


def test_default_tile_sizes_match_diffusers(checkpoint: Path) -> None:
    sizes = settings(checkpoint).vae_config
    assert (sizes.tile_sample_min_height, sizes.tile_sample_min_width) == (256, 256)
    assert (sizes.stride_height(8), sizes.stride_width(8)) == (192, 192)


def test_tile_sizes_must_be_multiples_of_the_vae_compression(
    checkpoint: Path, tmp_path: Path
) -> None:
    asked = settings(
        checkpoint, vae_engine="torch", vae_tiling=True, vae_config={"tile_sample_min_width": 100}
    )
    with pytest.raises(
        InputError, match=r"vae_config\.tile_sample_min_width: 100 should be a multiple of 8"
    ):
        open_decoder(tmp_path, asked)


def test_the_error_names_the_vae_config_of_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vae/config\.json is missing"):
        open_decoder(tmp_path, settings(tmp_path))
