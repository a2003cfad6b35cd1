"""Each family's geometry is read from its configs, and errors name configs that do not match."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.families import FAMILIES, ImageEncoder
from tests.checkpoints import BUILDERS, VARIANTS
from tests.checkpoints.wan import IMAGE_SIZE

# Latent channels, pixels a latent cell, frames a latent frame, text_dim, size multiple.
GEOMETRY = {
    "wan2.1-t2v": (5, 8, 4, 40, 16),
    "wan2.1-i2v": (5, 8, 4, 28, 16),
    "wan2.2-t2v": (7, 8, 4, 20, 16),
    "wan2.2-ti2v": (6, 16, 4, 20, 32),
    "wan2.2-i2v": (7, 8, 4, 20, 16),
    "hunyuan-video": (6, 8, 4, 24, 16),
}

PICTURES = {
    "wan2.1-i2v": ("required", ImageEncoder(side=IMAGE_SIZE, tokens=17, dim=36)),
    "wan2.2-i2v": ("required", None),
    "wan2.2-ti2v": ("optional", None),
}


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_undistilled_family_has_a_test_checkpoint() -> None:
    undistilled = [
        family.name for family in FAMILIES.values() if not family.defaults.denoising_timesteps
    ]
    assert list(BUILDERS) == undistilled == list(GEOMETRY)


def test_geometry_is_read_from_the_configs(family_checkpoint: Path) -> None:
    checkpoint = Checkpoint.open(family_checkpoint)
    info = checkpoint.info
    assert checkpoint.family.name == info.family == family_checkpoint.name
    assert (info.image, info.image_encoder) == PICTURES.get(info.family, ("refused", None))
    assert GEOMETRY[info.family] == (
        info.latent_channels,
        info.spatial_compression,
        info.temporal_compression,
        info.text_dim,
        info.size_multiple,
    )


@pytest.mark.parametrize(
    ("family", "component", "values", "message"),
    [
        (
            "wan2.1-i2v",
            "transformer",
            {"in_channels": 5},
            "in_channels is 5, but should be 14, the VAE's z_dim twice",
        ),
        (
            "wan2.1-i2v",
            "transformer",
            {"out_channels": 14},
            "out_channels is 14, but should be 5, the VAE's z_dim",
        ),
        (
            "wan2.1-i2v",
            "transformer",
            {"image_dim": 40},
            "image_dim is 40, but should be 36, the image encoder's",
        ),
        (
            "wan2.2-t2v",
            "transformer_2",
            {"text_dim": 8},
            "text_dim is 8, but should be 20, the text encoder's",
        ),
        (
            "wan2.2-t2v",
            "transformer_2",
            {"patch_size": [1, 4, 4]},
            r"patch_size is .1, 4, 4., but should be .1, 2, 2.",
        ),
        ("wan2.2-i2v", "vae", {"z_dim": "7"}, "z_dim is '7', but should be an integer"),
        (
            "wan2.2-ti2v",
            "transformer",
            {"in_channels": 16},
            "in_channels is 16, but should be 6, the VAE's z_dim",
        ),
        (
            "hunyuan-video",
            "transformer",
            {"text_embed_dim": 4},
            "text_embed_dim is 4, but should be 24, the hidden",
        ),
        (
            "hunyuan-video",
            "transformer",
            {"pooled_projection_dim": 4},
            "should be 20, the hidden_size",
        ),
        (
            "hunyuan-video",
            "transformer",
            {"in_channels": 33},
            "in_channels is 33, but should be 6, the VAE's",
        ),
        ("hunyuan-video", "transformer", {"patch_size_t": 2}, "patch_size_t is 2, but should be 1"),
    ],
)
def test_the_error_names_a_config_that_does_not_match(
    family: str, component: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = BUILDERS[family](tmp_path / family)
    edit(folder / component / "config.json", **values)
    with pytest.raises(CheckpointError, match=rf"{component}/config\.json: .*{message}"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("family", "file"),
    [
        ("wan2.1-i2v", "image_encoder/model.safetensors"),
        ("wan2.1-i2v", "image_processor/preprocessor_config.json"),
        ("wan2.2-i2v", "transformer_2/diffusion_pytorch_model.safetensors"),
        ("hunyuan-video", "tokenizer_2/tokenizer_config.json"),
        ("hunyuan-video", "text_encoder_2/config.json"),
        ("hunyuan-video", "text_encoder/model-00002-of-00002.safetensors"),
    ],
)
def test_the_error_names_a_missing_file(family: str, file: str, tmp_path: Path) -> None:
    folder = BUILDERS[family](tmp_path / family)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        Checkpoint.open(folder)


def test_positions_of_two_images_require_a_last_frame(tmp_path: Path) -> None:
    folder = VARIANTS["wan2.1-flf2v"](tmp_path / "flf2v")
    info = Checkpoint.open(folder).info
    assert (info.image, info.last_frame, info.extends) == ("required", "required", True)
    edit(folder / "transformer/config.json", pos_embed_seq_len=33)
    message = "pos_embed_seq_len is 33, but should be 34, the tokens of two images"
    with pytest.raises(CheckpointError, match=rf"transformer/config\.json: {message}"):
        Checkpoint.open(folder)


def test_ti2v_with_the_vae_of_the_bundled_checkpoint_opens(tmp_path: Path) -> None:
    """Patches of 2, no residual blocks, 16 channels, a compression of 4 x 8 x 8."""
    info = Checkpoint.open(VARIANTS["small-ti2v"](tmp_path / "small")).info
    assert (info.family, info.image, info.edits, info.extends) == (
        "wan2.2-ti2v", "optional", True, True,
    )  # fmt: skip
    assert (info.latent_channels, info.spatial_compression, info.temporal_compression) == (16, 8, 4)
    assert info.last_frame == "refused"


def test_the_error_names_the_config_of_a_missing_folder(tmp_path: Path) -> None:
    folder = BUILDERS["wan2.2-t2v"](tmp_path / "experts")
    shutil.rmtree(folder / "transformer_2")
    with pytest.raises(CheckpointError, match=r"transformer_2/config\.json is missing"):
        Checkpoint.open(folder)
