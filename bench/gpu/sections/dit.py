"""The DiT as it is served: a rank group, guidance and UniPC, beside plain diffusers."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from statistics import median_high
from typing import TYPE_CHECKING, Any

from bench.gpu.results import report
from bench.gpu.sizes import Shape, Sizes

if TYPE_CHECKING:
    import numpy as np

STEPS, LONG_STEPS = 6, 4


def run(work: Path, sizes: Sizes) -> None:
    """Report seconds of a step of both, and whether their latents agree."""
    import numpy as np

    from bench.gpu.checkpoints import checkpoint, task

    folder = checkpoint(work / "wan", sizes)
    ours = _served(folder, sizes)
    plain = _plain_pipeline(folder)
    text = task(folder, sizes.short, STEPS).arrays
    times: list[float] = []
    theirs = _plain_latents(plain, text, sizes.short, STEPS, times)
    gaps = [b - a for a, b in pairwise(times)]
    report("plain diffusers bf16 24f: a step", median_high(gaps), "s")
    cosine = float((ours * theirs).sum() / (np.linalg.norm(ours) * np.linalg.norm(theirs)))
    verdict = "ok" if cosine > 0.99 else "LOOK"
    report("latents beside plain diffusers, bf16", cosine, "cosine", verdict)
    if not sizes.tiny:
        _plain_latents(plain, text, sizes.long, 3, times)
        report("plain diffusers bf16 81f: a step", times[-1] - times[-2], "s")


def _served(folder: Path, sizes: Sizes) -> np.ndarray:
    """Latents of the short video in bf16."""
    import numpy as np

    from bench.gpu.checkpoints import step_seconds, task
    from pipeline.ranks.group import RankGroup, Timeouts
    from pipeline.settings import StageSettings

    started = time.perf_counter()
    settings = StageSettings(checkpoint=str(folder), precision="bf16")
    latents = np.empty(0)
    with RankGroup(settings, Timeouts(startup=120, step=120)) as group:
        report("rank ready", time.perf_counter() - started, "s")
        for name, shape, steps in (
            ("81f", sizes.long, LONG_STEPS),
            ("24f", sizes.short, STEPS),
        ):
            times: list[float] = []
            (made,) = group.run_batch([task(folder, shape, steps, times)])
            taken = step_seconds(times, time.perf_counter())
            if isinstance(made, BaseException):
                raise made
            note = f"first {taken[0]:.2f} s; finite {np.isfinite(made).all()}"
            report(f"DiT bf16 {name}: a step", median_high(taken[1:]), "s", note)
            latents = made
    settings = StageSettings(checkpoint=str(folder), precision="fp32")
    with RankGroup(settings, Timeouts(startup=120, step=300)) as group:
        times = []
        group.run_batch([task(folder, sizes.short, 3, times)])
        taken = step_seconds(times, time.perf_counter())
        report("DiT fp32 24f: a step", min(taken[1:]), "s")
    return latents


def _plain_pipeline(folder: Path) -> Any:
    import torch
    from diffusers import (
        AutoencoderKLWan,
        UniPCMultistepScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )

    from bench.gpu.measuring import DEVICE

    parts: dict[str, Any] = {
        "tokenizer": None,
        "text_encoder": None,
        "vae": AutoencoderKLWan.from_pretrained(folder / "vae"),
        "scheduler": UniPCMultistepScheduler.from_pretrained(folder / "scheduler"),
        "transformer": WanTransformer3DModel.from_pretrained(
            folder / "transformer", dtype=torch.bfloat16
        ),
    }
    plain: Any = WanPipeline(**parts)
    plain.to(DEVICE)
    plain.set_progress_bar_config(disable=True)
    return plain


def _plain_latents(
    plain: Any, text: Any, shape: Shape, steps: int, times: list[float]
) -> np.ndarray:
    import torch

    from bench.gpu.measuring import DEVICE, synchronize

    def embeds(name: str) -> torch.Tensor:
        padded = torch.nn.functional.pad(
            torch.from_numpy(text[name]), (0, 0, 0, 512 - text[name].shape[1])
        )
        return padded.to(DEVICE, torch.bfloat16)

    def note_time(_pipe: Any, _step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        synchronize()
        times.append(time.perf_counter())
        return kwargs

    times.clear()
    made = plain(
        prompt_embeds=embeds("prompt_embeds"),
        negative_prompt_embeds=embeds("negative_embeds"),
        height=shape.height,
        width=shape.width,
        num_frames=shape.frames,
        num_inference_steps=steps,
        guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="latent",
        callback_on_step_end=note_time,
    )
    return made.frames.float().cpu().numpy()
