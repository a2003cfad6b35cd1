"""Load a VAE of diffusers for the engines that run it in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoint.loading import require_loaded
from pipeline.errors import CheckpointError
from pipeline.settings import GraphPrecision

DTYPES: dict[GraphPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def load_vae(kind: Any, folder: Path, dtype: torch.dtype, threads: int) -> Any:
    """Load the VAE of the class ``kind`` from the component folder ``folder``, on the CPU.

    ``threads`` is the number of this process's threads (0: all cores). Raises ``CheckpointError``
    when the folder cannot be loaded.
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        vae, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    require_loaded(report, folder)
    return vae.eval()


def device_at(index: int) -> torch.device:
    """Return the GPU with this index, or the CPU on a machine without GPUs."""
    return torch.device(f"cuda:{index}" if torch.cuda.is_available() else "cpu")


def channels_last(module: torch.nn.Module) -> torch.nn.Module:
    """Convert the weights of the module's convolutions to the channels-last layout, with which
    their kernels are fastest; return the module.
    """
    for part in module.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(part, torch.nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
    return module


def to_frames(video: torch.Tensor, *, as_uint8: bool) -> torch.Tensor:
    """Convert a decoded clip, (C, t, H, W) with -1 for black and 1 for white, to frames on the CPU.

    They are (t, H, W, C), float32 with 0 for black and 1 for white, or uint8 as
    `pipeline.decoders.decoder.frames_to_uint8` makes them. The device converts them, because a
    copy of uint8 is four times as fast.
    """
    frames = video.float().permute(1, 2, 3, 0) / 2 + 0.5
    if as_uint8:
        frames = (frames.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return frames.contiguous().cpu()
