"""``python -m models.recipe.distill``: train a LoRA that makes ``models/shapes`` need 4 steps.

Reflow (Liu et al., "Flow Straight and Fast", 2022) with guidance distilled into it (Meng et al.,
"On Distillation of Guided Diffusion Models", 2023): the checkpoint makes clips in 20 guided steps,
and the LoRA learns, without guidance, the straight line from the noise of each clip to the clip.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from torch import nn

from models.recipe import low_rank, text
from models.recipe.progress import Run, compiled
from models.recipe.prompts import describe
from models.recipe.scene import sample_scene
from models.recipe.train_dit import SHIFT

SHAPE = (16, 5, 8, 8)  # of the latents of one clip
PAIRS, CHUNK = 4096, 64
TEACHER_STEPS, GUIDANCE = 20, 4.0
STEPS, BATCH, LEARNING_RATE = 3000, 32, 2e-3
RANK = 48
SAMPLED = 4
PRESET = {"num_inference_steps": SAMPLED, "guidance_scale": 1.0, "flow_shift": SHIFT}


def main() -> None:
    options = low_rank.options(__doc__, "4-steps")
    pipeline = WanPipeline.from_pretrained(options.model, dtype=torch.float32)
    texts, noise, clean = pairs(pipeline, options.work, options.seed)
    low_rank.save(train(pipeline, texts, noise, clean, options), options.output, PRESET)


def pairs(
    pipeline: WanPipeline, folder: Path, seed: int
) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Return PAIRS prompts, their noise and the normalised latents that the checkpoint makes of it,
    both (PAIRS, C, T, H, W). Chunks are kept in ``folder``; a later call makes the missing ones.
    """
    texts: list[str] = []
    noises, cleans = [], []
    transformer = compiled(pipeline.transformer)
    for chunk in range(PAIRS // CHUNK):
        rng = random.Random(f"{seed}-pairs-{chunk}")
        prompts = [describe(sample_scene(rng), rng) for _ in range(CHUNK)]
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        noise = torch.randn((CHUNK, *SHAPE), generator=generator)
        path = folder / f"pairs-{chunk}.pt"
        if not path.exists():
            with torch.autocast("cpu", torch.bfloat16):
                made = sample(pipeline, transformer, prompts, noise, TEACHER_STEPS, GUIDANCE)
            torch.save(made.bfloat16(), path)
        texts += prompts
        noises.append(noise)
        cleans.append(torch.load(path, weights_only=True).float())
    return texts, torch.cat(noises), torch.cat(cleans)


@torch.inference_mode()
def sample(
    pipeline: WanPipeline,
    transformer: nn.Module,
    prompts: list[str],
    noise: torch.Tensor,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Return the latents that ``transformer`` makes of ``noise`` with the rest of the pipeline."""
    positive = text.embed(pipeline.text_encoder, pipeline.tokenizer, prompts)
    empty = text.embed(pipeline.text_encoder, pipeline.tokenizer, [""]).expand_as(positive)
    scheduler = _scheduler(pipeline, steps)
    x = noise
    for t in scheduler.timesteps:
        time = t.expand(len(x))
        if guidance == 1:
            velocity = transformer(x, time, positive, return_dict=False)[0]
        else:
            above, below = transformer(
                torch.cat((x, x)),
                torch.cat((time, time)),
                torch.cat((positive, empty)),
                return_dict=False,
            )[0].chunk(2)
            velocity = below + guidance * (above - below)
        x = scheduler.step(velocity, t, x, return_dict=False)[0]
    return x


def _scheduler(pipeline: WanPipeline, steps: int) -> Any:
    """Return a scheduler like the pipeline's, set to ``steps``."""
    scheduler: Any = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    return scheduler


def train(
    pipeline: WanPipeline,
    texts: list[str],
    noise: torch.Tensor,
    clean: torch.Tensor,
    options: argparse.Namespace,
) -> nn.ModuleDict:
    """Train (or resume training) the matrices and return them with averaged weights."""
    with torch.inference_mode():
        chunks = [texts[i : i + 256] for i in range(0, len(texts), 256)]
        embeds = torch.cat(
            [text.embed(pipeline.text_encoder, pipeline.tokenizer, each) for each in chunks]
        ).clone()
    torch.manual_seed(options.seed)
    transformer = copy.deepcopy(pipeline.transformer)
    added = low_rank.add_low_rank(transformer, RANK)
    times = _scheduler(pipeline, SAMPLED).timesteps.float()
    run = Run("lora", added, options.work, STEPS, LEARNING_RATE, decay=0.0)
    model = compiled(transformer)
    while not run.done:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + run.step)
        picks = torch.randint(len(texts), (BATCH,), generator=rng)
        time = times[torch.arange(BATCH) % SAMPLED]
        sigma = (time / 1000).view(-1, 1, 1, 1, 1)
        mixed = torch.lerp(clean[picks], noise[picks], sigma)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(mixed, time, embeds[picks], return_dict=False)[0]
        run.update(nn.functional.mse_loss(velocity.float(), noise[picks] - clean[picks]))
    added.load_state_dict(run.ema)
    return added


if __name__ == "__main__":
    main()
