"""Train the diffusion transformer and the text encoder together, by flow matching on latents of
rendered clips.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn

from models.recipe import autoencoder, text
from models.recipe.progress import Run, compiled
from models.recipe.prompts import describe
from models.recipe.scene import Scene, render, sample_scene

SIZE, FRAMES = 64, 17
POOL = 10_240
BATCH = 16
STEPS = 14_000
LEARNING_RATE = 1.2e-3
UNCONDITIONAL = 0.1
# Clips of one plain shape are redundant: from sigma 0.98 down to 0.85 the noise stops hiding
# colour, then motion, then shape (measured against the whole pool). A shift of 5 spends 38 % of
# training and of sampling steps there.
SHIFT = 5.0


class Denoiser(nn.Module):
    """The two networks that one loss trains."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.text_encoder = text.build_encoder(vocabulary)
        self.transformer = WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=4,
            attention_head_dim=48,
            in_channels=autoencoder.Z_DIM,
            out_channels=autoencoder.Z_DIM,
            text_dim=text.TEXT_DIM,
            freq_dim=128,
            ffn_dim=768,
            num_layers=7,
            rope_max_seq_len=256,
        )


def train(
    vae: AutoencoderKLWan, folder: Path, seed: int
) -> tuple[Denoiser, text.PreTrainedTokenizerFast]:
    """Train (or resume training) in ``folder``; return the networks with averaged weights, and the
    tokenizer.

    Sets ``latents_mean`` and ``latents_std`` in the VAE's config, which normalise the latents.
    """
    scenes, latents = latent_pool(vae, folder, seed)
    tokenizer = text.load_tokenizer(folder / "tokenizer", seed)
    torch.manual_seed(seed)
    networks = Denoiser(len(tokenizer))
    run = Run("dit", networks, folder, STEPS, LEARNING_RATE)
    transformer = compiled(networks.transformer)
    while not run.done:
        rng = random.Random(f"{seed}-dit-{run.step}")
        torch.manual_seed(rng.getrandbits(62))
        picks = rng.sample(range(POOL), BATCH)
        texts = captions([scenes[i] for i in picks], rng)
        embeds = text.embed(networks.text_encoder, tokenizer, texts)
        run.update(flow_matching_loss(transformer, latents[picks].float(), embeds))
    networks.load_state_dict(run.ema)
    return networks.eval(), tokenizer


def captions(scenes: Sequence[Scene], rng: random.Random) -> list[str]:
    """Draw a sentence for each scene; some are left empty, for guidance."""
    return ["" if rng.random() < UNCONDITIONAL else describe(scene, rng) for scene in scenes]


def flow_matching_loss(
    transformer: nn.Module,
    clean: torch.Tensor,
    embeds: torch.Tensor,
    given: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean squared error of the velocity ``noise - clean`` at x = (1 - sigma) clean +
    sigma noise.

    Lipman et al., "Flow Matching for Generative Modeling", 2022; sigma is uniform and shifted
    towards noise as in Esser et al., "Scaling Rectified Flow Transformers", 2024, which matches the
    sampler's steps. A batch is spread evenly over it.

    ``given`` (B,) counts the first latent frames of each clip that have no noise: their sigma is 0,
    and their error does not count.
    """
    noise = torch.randn_like(clean)
    u = (torch.arange(len(clean)) + torch.rand(len(clean))) / len(clean)
    sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
    noisy = torch.ones(len(clean), clean.shape[2])  # (B, T)
    time = sigma * 1000
    if given is not None:
        noisy = (torch.arange(clean.shape[2]) >= given[:, None]).float()
        tokens = clean.shape[3] * clean.shape[4] // 4  # of one latent frame, in patches of 2x2
        time = (time[:, None] * noisy).repeat_interleave(tokens, dim=1)  # (B, tokens)
    mixed = torch.lerp(clean, noise, (sigma[:, None] * noisy)[:, None, :, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        velocity = transformer(mixed, time, embeds, return_dict=False)[0]
    errors = (velocity.float() - (noise - clean)).square().mean((1, 3, 4))  # (B, T)
    return (errors * noisy).sum() / noisy.sum()


def latent_pool(vae: AutoencoderKLWan, folder: Path, seed: int) -> tuple[list[Scene], torch.Tensor]:
    """Return POOL scenes and their normalised latents (POOL, Z, T, H, W) in bf16, which are encoded
    once and kept on disk.
    """
    scenes = [sample_scene(random.Random(f"{seed}-pool-{i}")) for i in range(POOL)]
    path = folder / "pool.pt"
    if not path.exists():
        torch.save(_encode(vae, scenes).bfloat16(), path)
    latents = torch.load(path, weights_only=True)
    sample = latents[:2048].float()
    mean, std = sample.mean((0, 2, 3, 4)), sample.std((0, 2, 3, 4))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return scenes, _normalise(vae, latents)


def encode(vae: AutoencoderKLWan, scenes: list[Scene]) -> torch.Tensor:
    """Return the normalised latents (N, Z, T, H, W) of the scenes' clips in bf16."""
    return _normalise(vae, _encode(vae, scenes))


def _encode(vae: AutoencoderKLWan, scenes: list[Scene]) -> torch.Tensor:
    """Return the latents (N, Z, T, H, W) of the scenes' clips as the VAE's encoder makes them."""
    model = autoencoder.ClipAutoencoder(vae)
    chunks = [scenes[i : i + 32] for i in range(0, len(scenes), 32)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        means = [model.encode(render(each, FRAMES, SIZE, SIZE))[0] for each in chunks]
    return torch.cat(means)


def _normalise(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    mean, std = (
        torch.tensor(vae.config[name]).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    return ((latents.float() - mean) / std).bfloat16()
