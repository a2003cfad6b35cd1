"""Make a sample for denoising from a request and the outputs of the stages before ``dit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.diffusion.denoising import Conditions, Sample
from pipeline.diffusion.image_conditioning import (
    AsFirstFrame,
    ImageConditioning,
    InChannels,
    NoImage,
)
from pipeline.diffusion.schedulers import noised, scheduler_for, steps_of_experts
from pipeline.ensemble.tensors import (
    IMAGE_EMBEDS,
    IMAGE_LATENTS,
    NEGATIVE_EMBEDS,
    POOLED_EMBEDS,
    PROMPT_EMBEDS,
)
from pipeline.families import VideoRequest
from pipeline.families.step_cache.option import StepCache

Arrays = Mapping[str, np.ndarray]


def initial_noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw the same noise as diffusers' ``randn_tensor`` with a CPU generator: float32, on
    the CPU.
    """
    return torch.randn(shape, generator=generator, dtype=torch.float32)


@dataclass(frozen=True)
class Samples:
    """Makes the samples of one checkpoint on ``device``, with conditions in ``dtype``.

    Those that are ``previewed`` keep the estimate of each step.
    """

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype
    cache: StepCache = field(default_factory=StepCache)
    previewed: bool = False

    def make(self, request: VideoRequest, arrays: Arrays) -> Sample:
        """Make the sample of ``request``. ``arrays`` are those of `pipeline.ranks.tasks.Task`."""
        info, generator = self.checkpoint.info, torch.Generator("cpu").manual_seed(request.seed)
        positive, negative = self._conditions(request, arrays)
        shape = info.latent_shape(request)
        second = (
            request.guidance_scale if request.guidance_scale_2 is None else request.guidance_scale_2
        )
        scheduler = scheduler_for(self.checkpoint, request, str(self.device))
        phases = steps_of_experts(self.checkpoint, scheduler)
        reused, first = self.cache.reused_steps(request.step_cache, phases), request.first_step
        noise = initial_noise(shape, generator).to(self.device)
        return Sample(
            latents=noise
            if request.strength is None
            else noised(scheduler, first, self._image_latents(arrays), noise),
            scheduler=scheduler,
            positive=positive,
            negative=negative,
            guidance_scales=(request.guidance_scale, second),
            conditioning=self._image_conditioning(request, arrays),
            generator=generator if info.defaults.denoising_timesteps else None,
            step=first,
            reused_steps=frozenset(step for step in reused if step > first),
            previewed=self.previewed,
        )

    def _conditions(
        self, request: VideoRequest, arrays: Arrays
    ) -> tuple[Conditions, Conditions | None]:
        if self.checkpoint.family.guidance_embedded:
            return self._hunyuan_video(request, arrays), None
        positive = self._wan(arrays[PROMPT_EMBEDS.key], arrays)
        return positive, self._wan(
            arrays[NEGATIVE_EMBEDS.key], arrays
        ) if request.guidance_scale > 1 else None

    def _wan(self, embeds: np.ndarray, arrays: Arrays) -> Conditions:
        """Return Wan's conditions, with texts zero-padded to the length that the transformer was
        trained with: it attends to the padding too.
        """
        missing = self.checkpoint.info.defaults.max_sequence_length - embeds.shape[1]
        conditions = {
            "encoder_hidden_states": torch.nn.functional.pad(
                self._tensor(embeds), (0, 0, 0, missing)
            )
        }
        if IMAGE_EMBEDS.key in arrays:
            conditions["encoder_hidden_states_image"] = self._tensor(arrays[IMAGE_EMBEDS.key])
        return conditions

    def _hunyuan_video(self, request: VideoRequest, arrays: Arrays) -> Conditions:
        """Return HunyuanVideo's conditions, with the text without its template or padding: the
        padding that diffusers adds is masked.
        """
        text = self._tensor(arrays[PROMPT_EMBEDS.key][:, self.checkpoint.family.template_tokens :])
        conditions = {
            "encoder_hidden_states": text,
            "encoder_attention_mask": text.new_ones(text.shape[:2]),
            "pooled_projections": self._tensor(arrays[POOLED_EMBEDS.key]),
        }
        if self.checkpoint.configs["transformer"].get("guidance_embeds", True):
            conditions["guidance"] = text.new_tensor([request.guidance_scale]) * 1000
        return conditions

    def _image_conditioning(self, request: VideoRequest, arrays: Arrays) -> ImageConditioning:
        if IMAGE_LATENTS.key not in arrays or request.strength is not None:
            # All tokens of a TI2V model have the same timestep then: one is faster than many.
            return NoImage()
        info, image = self.checkpoint.info, self._image_latents(arrays)
        if self.checkpoint.family.image_in_channels:
            return InChannels(image, info.temporal_compression, last=request.last_frame)
        return AsFirstFrame(image, info.patch_size)

    def _image_latents(self, arrays: Arrays) -> torch.Tensor:
        return torch.from_numpy(arrays[IMAGE_LATENTS.key]).to(self.device)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, self.dtype)
