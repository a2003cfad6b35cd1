"""Checkpoints with random weights in Wan's layout, made on the device itself, and requests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.numpy import save_file

from bench.gpu.measuring import DEVICE
from bench.gpu.sizes import Shape, Sizes
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams
from pipeline.ranks.group import Task

TEXT_LENGTH = 40
"""Tokens of every prompt."""


def random_model(cls: type[Any], dtype: torch.dtype, **config: Any) -> Any:
    """A model of diffusers; what its class keeps in fp32 stays in fp32, as in `from_pretrained`."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with DEVICE:
            model = cls(**config)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, parameter in model.named_parameters():
        if any(kept in name.split(".") for kept in cls._keep_in_fp32_modules or []):
            parameter.data = parameter.data.float()
    # Rotary tables: made in the default dtype, but read in fp32.
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.float()
    return model.eval()


def checkpoint(folder: Path, sizes: Sizes, *, two_experts: bool = False) -> Path:
    """Write the checkpoint into ``folder`` unless it is there. Its text encoder is a stand-in."""
    if (folder / "model_index.json").exists():
        return folder
    transformers = ["transformer", *(["transformer_2"] if two_experts else [])]
    for name in transformers:
        model = random_model(WanTransformer3DModel, torch.bfloat16, **sizes.transformer)
        model.save_pretrained(folder / name)
    torch.manual_seed(1)
    with DEVICE:
        vae = AutoencoderKLWan(**sizes.vae)
    vae.save_pretrained(folder / "vae")
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    scheduler.save_pretrained(folder / "scheduler")
    _stand_in_text_encoder(folder, sizes.text_dim)
    index = {
        "_class_name": "WanPipeline",
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        **{name: ["diffusers", "WanTransformer3DModel"] for name in transformers},
        **({"boundary_ratio": 0.875} if two_experts else {}),
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _stand_in_text_encoder(folder: Path, width: int) -> None:
    """A text encoder of one weight and a tokenizer without words: no section loads them."""
    for name in ("text_encoder", "tokenizer"):
        (folder / name).mkdir()
    weights = {"shared.weight": np.zeros((1, 1), np.float32)}
    save_file(weights, folder / "text_encoder" / "model.safetensors")
    (folder / "text_encoder" / "config.json").write_text(json.dumps({"d_model": width}))
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")


def task(folder: Path, shape: Shape, steps: int, step_times: list[float] | None = None) -> Task:
    """A request to the rank group, with random text embeddings.

    The time (`time.perf_counter`) before each step is appended to ``step_times``.
    """
    info = Checkpoint.open(folder).info
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal((1, TEXT_LENGTH, info.text_dim)).astype(np.float32)
        for name in ("prompt_embeds", "negative_embeds")
    }
    params = SamplingParams(
        prompt="-",
        height=shape.height,
        width=shape.width,
        num_frames=shape.frames,
        num_inference_steps=steps,
        seed=1,
        guidance_scale=5.0,
    )

    def before_step(_: int) -> None:
        if step_times is not None:
            step_times.append(time.perf_counter())

    return Task(info.resolve(params), arrays, before_step)


def step_seconds(step_times: list[float], end: float) -> list[float]:
    """Seconds of each step. The first one includes warming up."""
    return [b - a for a, b in zip(step_times, [*step_times[1:], end], strict=True)]
