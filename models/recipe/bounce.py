"""``python -m models.recipe.bounce``: train a LoRA that teaches ``models/shapes`` a new motion.

"a red circle bounces on a white background": the shape falls, and rises again. The word is new to
the checkpoint, which spells it in letters.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from diffusers import WanPipeline

from models.recipe import low_rank, text
from models.recipe.progress import Run, compiled
from models.recipe.scene import BOUNCE, Scene, sample_scene
from models.recipe.train_dit import captions, encode, flow_matching_loss

POOL = 1024  # of clips that bounce, and of others, which must stay as they are
STEPS, BATCH, LEARNING_RATE = 1200, 16, 2e-3
RANK = 16


def main() -> None:
    options = low_rank.options(__doc__, "bounce")
    pipeline = WanPipeline.from_pretrained(options.model, dtype=torch.float32)
    rng = random.Random(f"{options.seed}-bounce")
    scenes = [sample_bounce(rng) for _ in range(POOL)] + [sample_scene(rng) for _ in range(POOL)]
    latents = encode(pipeline.vae, scenes).float()
    torch.manual_seed(options.seed)
    added = low_rank.add_low_rank(pipeline.transformer, RANK)
    run = Run("bounce", added, options.work, STEPS, LEARNING_RATE, decay=0.0)
    transformer = compiled(pipeline.transformer)
    while not run.done:
        rng = random.Random(f"{options.seed}-bounce-{run.step}")
        torch.manual_seed(rng.getrandbits(62))
        picks = rng.sample(range(len(scenes)), BATCH)
        texts = captions([scenes[i] for i in picks], rng)
        with torch.no_grad():
            embeds = text.embed(pipeline.text_encoder, pipeline.tokenizer, texts)
        run.update(flow_matching_loss(transformer, latents[picks], embeds))
    added.load_state_dict(run.ema)
    low_rank.save(added, options.output)


def sample_bounce(rng: random.Random) -> Scene:
    """Draw a scene whose shape falls and rises again; combinations that never fall in training
    never bounce either.
    """
    while True:
        scene = sample_scene(rng)
        if scene.motion == "down":
            (top, bottom), (radius, _) = scene.centre, scene.radius
            return replace(
                scene,
                motion=BOUNCE,
                speed="normal",
                times=(0.0, 0.5, 1.0),
                centre=(top, bottom, top),
                radius=(radius, radius, radius),
            )


if __name__ == "__main__":
    main()
