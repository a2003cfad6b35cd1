"""The denoising loop: a function of model, latents, schedule and guidance. Everything else is a hook around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

# Up to this many tokens the two branches of guidance run as one batch: small models are bound by launching
# operations, not by arithmetic. Above it a batch of two only doubles the memory for activations.
BATCHED_GUIDANCE_TOKENS = 8192


class Velocity(Protocol):
    """A transformer that predicts the velocity of the probability flow, as ``WanTransformer3DModel`` does."""

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool,
    ) -> tuple[torch.Tensor]: ...


def denoise(
    model: Velocity,
    latents: torch.Tensor,
    scheduler: Any,
    prompt_embeds: torch.Tensor,
    negative_embeds: torch.Tensor | None,
    guidance_scale: float,
    *,
    batch_guidance: bool,
    before_step: Callable[[int], None],
) -> torch.Tensor:
    """Integrate from noise to clean latents over ``scheduler.timesteps``.

    ``latents`` float32 (1, C, T, H, W); embeddings (1, L, D) in the model's dtype, ``negative_embeds`` ``None`` when
    guidance is off. ``before_step(i)`` may raise to stop the loop. Returns float32 latents of the same shape.
    """
    scheduler.set_begin_index(0)
    dtype = prompt_embeds.dtype
    for index, timestep in enumerate(scheduler.timesteps):
        before_step(index)
        velocity = guided_velocity(
            model, latents.to(dtype), timestep, prompt_embeds, negative_embeds, guidance_scale, batch_guidance
        )
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents


def guided_velocity(
    model: Velocity,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    prompt_embeds: torch.Tensor,
    negative_embeds: torch.Tensor | None,
    guidance_scale: float,
    batch: bool,
) -> torch.Tensor:
    """Classifier-free guidance, v = v_neg + w (v_pos - v_neg); Ho and Salimans, 2022, eq. 6 with w as in Imagen."""
    if negative_embeds is None:
        return model(latents, timestep.expand(1), prompt_embeds, return_dict=False)[0]
    if batch:
        both = torch.cat([prompt_embeds, negative_embeds])
        positive, negative = model(latents.repeat(2, 1, 1, 1, 1), timestep.expand(2), both, return_dict=False)[0].chunk(
            2
        )
    else:
        positive = model(latents, timestep.expand(1), prompt_embeds, return_dict=False)[0]
        negative = model(latents, timestep.expand(1), negative_embeds, return_dict=False)[0]
    return negative + guidance_scale * (positive - negative)
