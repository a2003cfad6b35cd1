"""The denoising loop: a function of model, latents, schedule and guidance. Everything else is a hook around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from pipeline.parallel.mesh import Axis

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


class Guide(Protocol):
    """How the two branches of guidance are computed: ``together``, ``in_turns`` or ``side_by_side``."""

    def __call__(
        self, model: Velocity, latents: torch.Tensor, timestep: torch.Tensor, texts: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


def denoise(
    model: Velocity,
    latents: torch.Tensor,
    scheduler: Any,
    prompt_embeds: torch.Tensor,
    negative_embeds: torch.Tensor | None,
    guidance_scale: float,
    *,
    guide: Guide,
    before_step: Callable[[int, torch.Tensor], None],
) -> torch.Tensor:
    """Integrate from noise to clean latents over ``scheduler.timesteps``.

    ``latents`` float32 (1, C, T, H, W); embeddings (1, L, D) in the model's dtype, ``negative_embeds`` ``None`` when
    guidance is off. ``before_step(i, latents)`` may raise to stop the loop. Returns float32 latents of the same shape.

    Classifier-free guidance is v = v_neg + w (v_pos - v_neg); Ho and Salimans, 2022, eq. 6 with w as in Imagen.
    """
    scheduler.set_begin_index(0)
    dtype = prompt_embeds.dtype
    for index, timestep in enumerate(scheduler.timesteps):
        before_step(index, latents)
        if negative_embeds is None:
            velocity = model(latents.to(dtype), timestep.expand(1), prompt_embeds, return_dict=False)[0]
        else:
            texts = (prompt_embeds, negative_embeds)
            positive, negative = guide(model, latents.to(dtype), timestep, texts)
            velocity = negative + guidance_scale * (positive - negative)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents


def together(
    model: Velocity, latents: torch.Tensor, timestep: torch.Tensor, texts: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both branches as one batch."""
    both = model(latents.repeat(2, 1, 1, 1, 1), timestep.expand(2), torch.cat(texts), return_dict=False)[0]
    positive, negative = both.chunk(2)
    return positive, negative


def in_turns(
    model: Velocity, latents: torch.Tensor, timestep: torch.Tensor, texts: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One branch after the other."""
    positive, negative = (model(latents, timestep.expand(1), text, return_dict=False)[0] for text in texts)
    return positive, negative


def side_by_side(branches: Axis) -> Guide:
    """Each branch on ranks of its own, which then tell each other."""

    def guide(
        model: Velocity, latents: torch.Tensor, timestep: torch.Tensor, texts: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = model(latents, timestep.expand(1), texts[branches.index], return_dict=False)[0]
        positive, negative = branches.all_gather(own)
        return positive, negative

    return guide
