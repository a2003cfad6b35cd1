"""A diffusers pipeline called for what one of our requests says."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.families import VideoRequest


def call_diffusers(
    pipeline: Any, request: VideoRequest, output_type: str, **inputs: Any
) -> np.ndarray:
    """Latents for the output type ``latent``, frames (1, T, H, W, 3) in [0, 1] for ``np``."""
    second = (
        {} if request.guidance_scale_2 is None else {"guidance_scale_2": request.guidance_scale_2}
    )
    output = pipeline(
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type=output_type,
        **second,
        **inputs,
    )
    return np.asarray(output.frames)
