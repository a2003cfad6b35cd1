"""What all graphs of the Wan VAE decoder share: normalised latents in, frames out."""

from __future__ import annotations

from typing import Any

import torch


class WanFrames(torch.nn.Module):
    """The decoder between two conversions. It uses diffusers' modules unchanged, on the model's own
    weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, vae: Any) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanUpsample

        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.patch_size: int = vae.config["patch_size"] or 1
        self.conv_count: int = vae._cached_conv_counts["decoder"]
        self.register_buffer("mean", _per_channel(vae.config["latents_mean"]))
        self.register_buffer("std", _per_channel(vae.config["latents_std"]))
        for module in self.decoder.modules():
            if isinstance(module, WanUpsample):
                # The same at a factor of two, and an operator that ONNX has.
                module.mode = "nearest"

    def decode(
        self, latents: torch.Tensor, *, caches: list | None, first_chunk: bool
    ) -> torch.Tensor:
        """Decode latents [B, z_dim, T, h, w] to float32 [B, t, H, W, 3]; the list of caches is
        updated in place.
        """
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        z = self.post_quant_conv(
            (latents * self.std + self.mean).to(self.post_quant_conv.weight.dtype)
        )
        video = self.decoder(z, feat_cache=caches, feat_idx=[0], first_chunk=first_chunk)
        video = unpatchify(video.float(), self.patch_size) / 2 + 0.5
        return video.permute(0, 2, 3, 4, 1)


def _per_channel(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1, 1)
