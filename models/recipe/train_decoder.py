"""Finish the VAE's decoder: it learns small shapes, and latents that are not quite clean.

Those of the transformer never are. The encoder stays as it is, so latents mean what they meant.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from models.recipe import autoencoder
from models.recipe.progress import Run, compiled
from models.recipe.scene import Scene, render, sample_scene
from models.recipe.train_vae import SIZE, pixel_loss

STEPS, CLIPS, FRAMES, LEARNING_RATE = 4000, 4, 17, 4e-4
NOISE = 0.2  # of the latents at most, in standard deviations of their channel


class Decoder(nn.Module):
    """The part of a VAE that decodes clips (B, 3, T, H, W) from its latents."""

    def __init__(self, vae: AutoencoderKLWan):
        super().__init__()
        self.quant, self.decoder = vae.post_quant_conv, vae.decoder
        self._decode = autoencoder.ClipAutoencoder(vae).decode

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self._decode(latents)


def train(vae: AutoencoderKLWan, folder: Path, seed: int) -> None:
    """Train (or resume training) the decoder in place; it ends with averaged weights."""
    decoder = Decoder(vae).train()
    encode = compiled(_Encoder(vae))
    run = Run("decoder", decoder, folder, STEPS, LEARNING_RATE, decay=0.0)
    decode = compiled(decoder)
    scale = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    while not run.done:
        rng = random.Random(f"{seed}-decoder-{run.step}")
        torch.manual_seed(rng.getrandbits(62))
        clips = render([_scene(rng) for _ in range(CLIPS)], FRAMES, SIZE, SIZE)
        with autoencoder.whole_clip(), torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = encode(clips).float()
            amount = torch.rand(CLIPS, 1, 1, 1, 1) * NOISE
            latents += amount * scale * torch.randn_like(latents)
            run.update(pixel_loss(decode(latents), clips))
    decoder.load_state_dict(run.ema)
    decoder.eval()


class _Encoder(nn.Module):
    def __init__(self, vae: AutoencoderKLWan):
        super().__init__()
        self.vae = vae

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return autoencoder.ClipAutoencoder(self.vae).encode(clips)[0]


def _scene(rng: random.Random) -> Scene:
    """Return a scene; in half of them the shape is small at the beginning or the end."""
    small = rng.random() < 0.5
    while True:
        scene = sample_scene(rng)
        if not small or scene.motion in ("grow", "shrink"):
            return scene
