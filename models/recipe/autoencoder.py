"""The VAE of ``shapes``: its architecture, and a whole-clip forward that trains several times
faster than chunks.

``AutoencoderKLWan`` processes a clip in chunks (1 frame, then 4 at a time) with a cache for every
causal convolution. Over a whole clip the caches are plain left context, so one pass gives the same
values; only the two temporal resamplers treat the first frame separately, which ``_resample_clip``
implements.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders import autoencoder_kl_wan as wan
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

Z_DIM = 16
PATCH = 2


def build() -> AutoencoderKLWan:
    """Build an untrained VAE with spatial compression 8 (2 by patches, 4 by convolutions) and
    temporal compression 4.
    """
    channels = 3 * PATCH * PATCH
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=Z_DIM,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        in_channels=channels,
        out_channels=channels,
        patch_size=PATCH,
        scale_factor_spatial=8,
        scale_factor_temporal=4,
        latents_mean=[0.0] * Z_DIM,
        latents_std=[1.0] * Z_DIM,
    )


class ClipAutoencoder(torch.nn.Module):
    """The VAE over whole clips, as one module that ``torch.compile`` accepts (compiled, it trains
    three times faster).
    """

    def __init__(self, vae: AutoencoderKLWan):
        super().__init__()
        self.vae = vae

    def forward(
        self, clips: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruct clips (B, 3, T, H, W) in [-1, 1], given noise shaped like the latents;
        returns (clips, mean, log-variance).

        The returned clips are not clamped: a clamp has no gradient where a target is saturated.
        """
        mean, logvar = self.encode(clips)
        return self.decode(mean + noise * (0.5 * logvar).exp()), mean, logvar

    def encode(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the posterior's mean and log-variance, each (B, Z, (T+3)//4, H/8, W/8)."""
        with whole_clip():
            moments = self.vae.quant_conv(self.vae.encoder(wan.patchify(clips, PATCH)))
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        with whole_clip():
            return wan.unpatchify(self.vae.decoder(self.vae.post_quant_conv(latents)), PATCH)


@contextlib.contextmanager
def whole_clip() -> Iterator[None]:
    """Make the VAE's resamplers process whole clips instead of chunks inside this block."""
    original = wan.WanResample.forward
    wan.WanResample.forward = _resample_clip
    try:
        yield
    finally:
        wan.WanResample.forward = original


def _resample_clip(self: Any, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    if self.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], x[:, :, 1:]
        b, c, t, h, w = rest.shape
        pairs = self.time_conv(rest).reshape(b, 2, c, t, h, w)
        rest = torch.stack((pairs[:, 0], pairs[:, 1]), 3).reshape(b, c, 2 * t, h, w)
        x = torch.cat([first, rest], 2)
    b, c, t, h, w = x.shape
    frames = self.resample(x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w))
    x = frames.view(b, t, *frames.shape[1:]).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
    return x
