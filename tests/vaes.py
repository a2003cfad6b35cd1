"""Tiny Wan VAEs with random weights, in the three layouts that there are and in odd sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

# One more residual block a level changes the time of the export and nothing that these tests look
# at.
VAES: dict[str, dict[str, Any]] = {
    "wan21": {
        "base_dim": 6,
        "z_dim": 5,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 0,
        "temperal_downsample": [False, True, True],
    },
    "patched": {
        "base_dim": 8,
        "z_dim": 7,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 0,
        "temperal_downsample": [True, True],
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
    },
    # As Wan 2.2 5B, with a temporal compression of 2 for a change.
    "residual": {
        "base_dim": 8,
        "decoder_base_dim": 12,
        "z_dim": 3,
        "dim_mult": [1, 1],
        "num_res_blocks": 0,
        "temperal_downsample": [True],
        "is_residual": True,
        "scale_factor_spatial": 4,
        "scale_factor_temporal": 2,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
    },
}


# Pixels of a latent cell's side, and of a patch's.
CELLS = {"wan21": (8, 1), "patched": (8, 2), "residual": (4, 2)}


def build(name: str, folder: Path) -> Path:
    """Saves the VAE of that layout in the existing folder `folder`, which it returns."""
    config = VAES[name]
    torch.manual_seed(1)
    z_dim = config["z_dim"]
    mean, std = torch.randn(z_dim).tolist(), (torch.rand(z_dim) + 0.5).tolist()
    vae = AutoencoderKLWan(**config, latents_mean=mean, latents_std=std)
    perturb(vae)
    vae.save_pretrained(folder)
    return folder


def reference(folder: Path, latents: np.ndarray, **tiling: int) -> np.ndarray:
    """What diffusers decodes of normalised latents: frames in [0, 1], float32 [t, H, W, 3]; with
    sizes: in tiles.
    """
    vae = AutoencoderKLWan.from_pretrained(folder)
    if tiling:
        vae.enable_tiling(**tiling)
    mean, std = (
        torch.tensor(vae.config[key]).view(1, -1, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    with torch.no_grad():
        (video,) = vae.decode(torch.from_numpy(latents) * std + mean, return_dict=False)
    return (video[0].permute(1, 2, 3, 0) / 2 + 0.5).numpy()


def perturb(model: torch.nn.Module) -> None:
    """Some parameters start as zeros or ones, where a mistake in the graph would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
