"""Teach the transformer to continue a clip, whose first latent frames are given without noise, and
then to make short ones, of which one of a single frame is an image.

Given frames are how Wan 2.2 TI2V 5B begins from an image ("Wan: Open and Advanced Large-Scale Video
Generative Models", 2025): tokens of a given latent frame have timestep 0, all others that of the
step.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from transformers import PreTrainedTokenizerFast

from models.recipe import text
from models.recipe.progress import Run, compiled
from models.recipe.scene import Scene, sample_scene, sample_turn
from models.recipe.train_dit import (
    FRAMES,
    Denoiser,
    captions,
    encode,
    flow_matching_loss,
)

POOL, TURNS = 8192, 1536  # clips of one motion; clips that turn, for each of the two lengths
STAGES = (
    # name, steps, learning rate, share of batches with short clips
    ("prefix", 6000, 6e-4, 0.0),
    ("short", 1500, 4e-4, 0.5),
)
SHORT = (1, 1, 2, 3, 4)
"""Latent frames of short clips."""
# Of the clips of a batch: how many latent frames are given (1 is an image), and of which clips.
FROM_NOTHING, FROM_IMAGE, FROM_CLIP = 7, 5, 4
TURN_FRAMES = {2: 4, 3: 8}
"""Latent frames that are given -> the frame from which on a clip does as its text says."""


def train(
    networks: Denoiser,
    tokenizer: PreTrainedTokenizerFast,
    vae: AutoencoderKLWan,
    folder: Path,
    seed: int,
) -> None:
    """Train (or resume training) the networks in place; they end with averaged weights."""
    scenes = _scenes(seed)
    latents = _latents(vae, scenes, folder / "prefix-pool.pt")
    for name, steps, rate, short in STAGES:
        run = Run(name, networks.train(), folder, steps, rate)
        transformer = compiled(networks.transformer)
        while not run.done:
            rng = random.Random(f"{seed}-{name}-{run.step}")
            torch.manual_seed(rng.getrandbits(62))
            picks, given = _batch(rng)
            texts = captions([scenes[i] for i in picks], rng)
            embeds = text.embed(networks.text_encoder, tokenizer, texts)
            clean, counts = latents[picks].float(), torch.tensor(given)
            if short and rng.random() < short:
                length = rng.choice(SHORT)
                clean, counts = clean[:, :, :length], counts.clamp(max=length - 1)
            run.update(flow_matching_loss(transformer, clean, embeds, counts))
        networks.load_state_dict(run.ema)
    networks.eval()


def _scenes(seed: int) -> list[Scene]:
    """Return POOL clips of one motion, then those that turn, first the early ones."""
    rng = random.Random(f"{seed}-prefix")
    turns = [turn / (FRAMES - 1) for turn in TURN_FRAMES.values() for _ in range(TURNS)]
    return [sample_scene(rng) for _ in range(POOL)] + [sample_turn(rng, turn) for turn in turns]


def _batch(rng: random.Random) -> tuple[list[int], list[int]]:
    """Return which clips, and how many latent frames of each are given.

    The noise level rises along a batch, so clips and kinds are shuffled together.
    """
    batch = [(rng.randrange(POOL), 0) for _ in range(FROM_NOTHING)]
    batch += [(rng.randrange(POOL), 1) for _ in range(FROM_IMAGE)]
    for at in range(FROM_CLIP):
        late = at % len(TURN_FRAMES)
        batch.append((POOL + late * TURNS + rng.randrange(TURNS), list(TURN_FRAMES)[late]))
    rng.shuffle(batch)
    picks, given = zip(*batch, strict=True)
    return list(picks), list(given)


@torch.inference_mode()
def _latents(vae: AutoencoderKLWan, scenes: list[Scene], path: Path) -> torch.Tensor:
    """Return the normalised latents (N, C, T, H, W) in bf16, encoded once and kept on disk."""
    if not path.exists():
        torch.save(encode(vae, scenes), path)
    return torch.load(path, weights_only=True)
