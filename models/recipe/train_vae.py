"""Train the VAE: single frames first, then clips (images converge in minutes, and clips start
from there).
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from models.recipe import autoencoder
from models.recipe.progress import Run, compiled
from models.recipe.scene import render, sample_scene

SIZE = 64
KL_WEIGHT = 1e-6
SHAPE_WEIGHT = 6.0
STAGES = (
    # name, steps, clips per step, frames per clip, learning rate
    ("vae-images", 1200, 16, 1, 2.0e-3),
    ("vae-short", 1250, 4, 9, 1.5e-3),
    ("vae-clips", 1800, 4, 17, 1.5e-3),
    ("vae-edges", 4500, 4, 17, 1.5e-3),
)


def train(folder: Path, seed: int) -> AutoencoderKLWan:
    """Train all stages (or the remaining ones) in ``folder`` and return the VAE with its averaged
    weights.
    """
    torch.manual_seed(seed)
    vae = autoencoder.build()
    for number, (name, steps, clips, frames, lr) in enumerate(STAGES):
        run = Run(name, vae, folder, steps, lr)
        model = compiled(autoencoder.ClipAutoencoder(vae))
        while not run.done:
            rng = random.Random(f"{seed}-{number}-{run.step}")
            torch.manual_seed(rng.getrandbits(62))
            batch = render([sample_scene(rng) for _ in range(clips)], max(frames, 2), SIZE, SIZE)
            with autoencoder.whole_clip(), torch.autocast("cpu", torch.bfloat16):
                run.update(
                    _loss(
                        model, batch[:, :, :frames] if rng.random() < 0.5 else batch[:, :, -frames:]
                    )
                )
        vae.load_state_dict(run.ema)
    return vae.eval()


def _loss(model: nn.Module, clips: torch.Tensor) -> torch.Tensor:
    """Return the loss of pixels and a light KL term."""
    batch, _, frames, height, width = clips.shape
    noise = torch.randn(batch, autoencoder.Z_DIM, (frames + 3) // 4, height // 8, width // 8)
    decoded, mean, logvar = model(clips, noise)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return pixel_loss(decoded, clips) + KL_WEIGHT * kl


def pixel_loss(decoded: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Return the L1 loss on pixels and on their differences (edges distinguish the shapes).

    The shape covers a tenth of the frame: its pixels have a higher weight, otherwise the VAE paints
    only backgrounds for a long time. So do the pixels around it, otherwise a shape that is too
    large costs less than one that is too small, and crosses come out as diamonds.
    """
    error = decoded.float() - clips
    covered = (clips != clips[..., :1, :1]).any(dim=1, keepdim=True).float()
    weight = 1 + SHAPE_WEIGHT * nn.functional.max_pool3d(
        covered, (1, 9, 9), stride=1, padding=(0, 4, 4)
    )
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return (weight * error.abs()).mean() + edges
