"""Random checkpoints with the VAEs of published models and transformers of published widths."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    HunyuanVideoTransformer3DModel,
    WanTransformer3DModel,
)

from pipeline.checkpoint.regular_files import read_json
from scripts.published import VAE_22, WIDTH_1_3B, WIDTH_5B
from tests.checkpoints import BUILDERS

Component = tuple[type[Any], dict[str, Any]]


def write(family: str, folder: Path) -> Path:
    """Write a tiny checkpoint of ``family`` and replace its VAE and transformer by wide ones."""
    BUILDERS[family](folder)
    torch.manual_seed(0)
    for name, (cls, config) in _wide(family, folder).items():
        shutil.rmtree(folder / name)
        cls(**config).save_pretrained(folder / name)
    return folder


def _wide(family: str, folder: Path) -> dict[str, Component]:
    tiny = read_json(folder / "transformer" / "config.json")
    if family == "hunyuan-video":
        kept = {key: tiny[key] for key in ("text_embed_dim", "pooled_projection_dim")}
        layers = {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 12}
        return {
            "vae": (AutoencoderKLHunyuanVideo, {}),
            "transformer": (HunyuanVideoTransformer3DModel, {**kept, **layers}),
        }
    size, vae = (WIDTH_5B, VAE_22) if family == "wan2.2-ti2v" else (WIDTH_1_3B, {})
    wide = {**size, "num_layers": 4, "text_dim": tiny["text_dim"]}
    return {"vae": (AutoencoderKLWan, vae), "transformer": (WanTransformer3DModel, wide)}
