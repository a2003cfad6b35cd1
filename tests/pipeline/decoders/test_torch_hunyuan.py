"""HunyuanVideo's decoder in torch matches diffusers' decode, whole and in tiles and windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo

from pipeline.decoders import open_decoder
from pipeline.decoders.torch_hunyuan import TorchHunyuanEngine
from pipeline.settings import StageSettings

SIZES = {
    "tile_sample_min_height": 32,
    "tile_sample_min_width": 32,
    "tile_sample_min_num_frames": 8,
    "tile_sample_stride_height": 24,
    "tile_sample_stride_width": 24,
    "tile_sample_stride_num_frames": 4,
}


@pytest.fixture(scope="module")
def checkpoint(build_family: Callable[[str], Path]) -> Path:
    return build_family("hunyuan-video")


def decoded(vae: Any, latents: np.ndarray) -> np.ndarray:
    """What diffusers decodes: frames (t, H, W, 3) in [0, 1]."""
    with torch.no_grad():
        video = vae.decode(torch.from_numpy(latents) / vae.config["scaling_factor"]).sample
    return (video[0].permute(1, 2, 3, 0) / 2 + 0.5).numpy()


def noise(vae: Any, *sizes: int) -> np.ndarray:
    shape = (1, vae.config["latent_channels"], *sizes)
    return np.random.default_rng(4).standard_normal(shape, np.float32)


@pytest.mark.parametrize("sizes", [(1, 4, 6), (3, 5, 4), (5, 6, 3)])
def test_window_equals_diffusers_decode(checkpoint: Path, sizes: tuple[int, int, int]) -> None:
    vae: Any = AutoencoderKLHunyuanVideo.from_pretrained(checkpoint / "vae")
    vae.use_framewise_decoding = False
    latents = noise(vae, *sizes)
    engine = TorchHunyuanEngine(checkpoint / "vae", torch.float32, 1)
    (made,) = engine.frames(latents)
    np.testing.assert_allclose(made, decoded(vae, latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tiled", [False, True])
def test_long_clip_equals_diffusers_windows_and_tiles(checkpoint: Path, tiled: bool) -> None:
    vae: Any = AutoencoderKLHunyuanVideo.from_pretrained(checkpoint / "vae")
    if tiled:
        vae.enable_tiling(**SIZES)
    else:
        vae.tile_sample_min_num_frames = SIZES["tile_sample_min_num_frames"]
        vae.tile_sample_stride_num_frames = SIZES["tile_sample_stride_num_frames"]
    latents = noise(vae, 4, 6, 5)
    settings = StageSettings.model_validate(
        {
            "checkpoint": str(checkpoint),
            "vae_engine": "torch",
            "vae_tiling": tiled,
            "vae_config": SIZES,
            "threads": 1,
        }
    )
    chunks = list(open_decoder(checkpoint, settings).decode(latents))
    expected = decoded(vae, latents).clip(0, 1)
    np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=1e-5)
