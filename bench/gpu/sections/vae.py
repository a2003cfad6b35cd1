"""The VAE's torch engine in each precision beside ``vae.decode``; then its stage, up to the MP4."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

if TYPE_CHECKING:
    import numpy as np


def run(work: Path, sizes: Sizes) -> None:
    """Report seconds, peak memory, and how far precisions and engines are apart."""
    import numpy as np

    from bench.gpu.checkpoints import checkpoint
    from bench.gpu.measuring import reset_peak

    folder = checkpoint(work / "wan", sizes)
    shape = (1, 16, *sizes.long.latents)
    latents = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    _precisions(folder, latents, sizes)
    reset_peak()
    _beside_diffusers(folder, latents[:, :, :3])
    reset_peak()
    _stage(folder, latents, sizes)


def _precisions(folder: Path, latents: np.ndarray, sizes: Sizes) -> None:
    import numpy as np
    import torch

    from bench.gpu.measuring import peak_gb, reset_peak
    from pipeline.decoders.torch_wan import TorchEngine

    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    chunks = {}
    for name in ["fp32"] if sizes.tiny else dtypes:
        reset_peak()
        engine = TorchEngine(folder / "vae", dtypes[name], 0)
        count = min(5, latents.shape[2])
        list(engine.frames(latents[:, :, :2]))
        started = time.perf_counter()
        made = list(engine.frames(latents[:, :, :count]))
        taken = (time.perf_counter() - started) / count
        finite = all(np.isfinite(chunk).all() for chunk in made)
        note = f"peak {peak_gb():.1f} GB; finite {finite}"
        report(f"VAE torch {name}: a latent frame", taken, "s", note)
        chunks[name] = made[1]
    for name, chunk in chunks.items():
        whole = chunks["fp32"]
        cosine = (chunk * whole).sum() / (np.linalg.norm(chunk) * np.linalg.norm(whole))
        report(f"VAE {name} beside fp32", float(cosine), "cosine")


def _beside_diffusers(folder: Path, latents: np.ndarray) -> None:
    import numpy as np
    import torch
    from diffusers import AutoencoderKLWan

    from bench.gpu.measuring import DEVICE
    from pipeline.decoders.torch_wan import TorchEngine

    model: Any = AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32)
    model.to(DEVICE)
    std, mean = (
        torch.tensor(model.config[name], device=DEVICE).view(1, -1, 1, 1, 1)
        for name in ("latents_std", "latents_mean")
    )
    with torch.inference_mode():
        whole = model.decode(torch.from_numpy(latents).to(DEVICE) * std + mean, return_dict=False)
    theirs = (whole[0][0].permute(1, 2, 3, 0) / 2 + 0.5).cpu().numpy()
    chunks = TorchEngine(folder / "vae", torch.float32, 0).frames(latents)
    ours = np.clip(np.concatenate(list(chunks)), 0, 1)
    off = float(np.abs(ours - theirs).max())
    report("VAE fp32 beside vae.decode", off, "max abs", "TF32 convolutions on both sides")


def _stage(folder: Path, latents: np.ndarray, sizes: Sizes) -> None:
    from bench.gpu.checkpoints import task
    from pipeline.settings import StageSettings
    from pipeline.stages.vae_decoder import VaeDecoderStage

    precision = "fp32" if sizes.tiny else "bf16"
    settings = StageSettings(checkpoint=str(folder), vae_engine="torch", vae_precision=precision)
    stage = VaeDecoderStage(folder, settings)
    request = task(folder, sizes.long, 1).request
    stage.run(request, latents, lambda *_: None)
    started = time.perf_counter()
    made = stage.run(request, latents, lambda *_: None)
    note = f"{len(made.mp4) / 1e6:.1f} MB; noise is the worst case for the video encoder"
    name = f"stage vae_decoder {precision}, whole clip to MP4"
    report(name, time.perf_counter() - started, "s", note)
