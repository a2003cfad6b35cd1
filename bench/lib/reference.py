"""``diffusers.WanPipeline`` in this process, as its documentation loads it: the VAE and the text
encoder in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from diffusers.utils import logging as diffusers_logging
from transformers import UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from pipeline.families import ModelInfo, SamplingParams
from pipeline.ranks.denoiser import DTYPES
from pipeline.settings import Precision


class Reference:
    """Only the transformer is in ``precision``, as on our side. Nothing is encoded or saved."""

    def __init__(self, model_path: Path, info: ModelInfo, precision: Precision, threads: int):
        torch.set_num_threads(threads)
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        self._info = info
        vae = AutoencoderKLWan.from_pretrained(model_path / "vae", dtype=torch.float32)
        encoder = UMT5EncoderModel.from_pretrained(model_path / "text_encoder", dtype=torch.float32)
        self._pipeline = WanPipeline.from_pretrained(
            model_path,
            vae=vae,
            text_encoder=encoder,
            dtype=DTYPES[precision],
            local_files_only=True,
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def generate(self, params: SamplingParams) -> np.ndarray:
        """The same video as a request with ``params``: float32 frames (T, H, W, 3) in [0, 1]."""
        request = self._info.resolve(params)
        output = self._pipeline(
            prompt=params.prompt,
            negative_prompt=self._info.negative_prompt(params),
            height=request.height,
            width=request.width,
            num_frames=request.num_frames,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            max_sequence_length=self._info.defaults.max_sequence_length,
            output_type="np",
        )
        assert isinstance(output, WanPipelineOutput)
        return np.asarray(output.frames[0])
