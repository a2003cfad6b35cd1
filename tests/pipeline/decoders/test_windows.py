"""Temporal windows over HunyuanVideo's decoder match diffusers with the same sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo

from pipeline.decoders import Decoder, Tiling, Windows
from pipeline.errors import InputError

CHANNELS, CELL = 3, 8


class HunyuanEngine:
    """An engine that computes with diffusers what the exported graph computes."""

    channels, frames_per_latent = CHANNELS, 4

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def runs(self, _latent_frames: int) -> int:
        return 1

    @torch.no_grad()
    def _decode(self, latents: np.ndarray) -> np.ndarray:
        vae = self._vae
        video = vae.decoder(
            vae.post_quant_conv(torch.from_numpy(latents) / vae.config.scaling_factor)
        )
        return (video[0].permute(1, 2, 3, 0) / 2 + 0.5).numpy()

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        yield self._decode(latents)


@pytest.fixture(scope="module")
def vae() -> Any:
    torch.manual_seed(4)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=CHANNELS,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return vae.eval()


def reference(vae: Any, latents: np.ndarray, tiling: Tiling | None, windows: Windows) -> np.ndarray:
    vae.use_tiling = tiling is not None
    vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames = (
        windows.frames,
        windows.stride,
    )
    if tiling:
        vae.tile_sample_min_height, vae.tile_sample_stride_height = (
            tiling.height,
            tiling.stride_height,
        )
        vae.tile_sample_min_width, vae.tile_sample_stride_width = tiling.width, tiling.stride_width
    with torch.no_grad():
        (video,) = vae.decode(
            torch.from_numpy(latents) / vae.config.scaling_factor, return_dict=False
        )
    return (video[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("tiling", [None, Tiling(16, 16, 8, 8, CELL)])
@pytest.mark.parametrize(
    ("latent_frames", "windows"),
    [(1, Windows(16, 12, 4)), (4, Windows(16, 12, 4)), (5, Windows(16, 12, 4)), (8, Windows(16, 12,
    4)),
     (7, Windows(8, 4, 4)), (4, Windows(8, 8, 4))],
)  # fmt: skip
def test_windowed_decode_equals_diffusers(
    vae: Any, latent_frames: int, windows: Windows, tiling: Tiling | None
) -> None:
    latents = np.random.default_rng(1).standard_normal(
        (1, CHANNELS, latent_frames, 3, 3), np.float32
    )

    frames = np.concatenate(list(Decoder(HunyuanEngine(vae), tiling, windows).decode(latents)))

    assert len(frames) == 1 + 4 * (latent_frames - 1)
    np.testing.assert_allclose(frames, reference(vae, latents, tiling, windows), rtol=0, atol=1e-4)


def test_runs_are_counted_over_all_windows(vae: Any) -> None:
    decoder = Decoder(HunyuanEngine(vae), Tiling(16, 16, 8, 8, CELL), Windows(8, 4, 4))
    runs: list[tuple[int, int]] = []

    list(
        decoder.decode(
            np.zeros((1, CHANNELS, 5, 2, 3), np.float32),
            lambda run, total: runs.append((run, total)),
        )
    )

    assert runs == [(run, 4 * 6) for run in range(4 * 6)]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((14, 12, 4), "vae_config.tile_sample_min_num_frames: 14 should be a multiple of 4"),
        ((16, 2, 4), "vae_config.tile_sample_stride_num_frames: 2 should be a multiple of 4"),
        (
            (8, 12, 4),
            "vae_config.tile_sample_stride_num_frames: 12 leaves gaps between windows of 8",
        ),
    ],
)
def test_invalid_window_sizes_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Windows(*sizes)
    assert str(caught.value) == message
