"""How a video's latents meet the image it begins from, on their way into the transformer and
at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class ImageConditioning(Protocol):
    """``latents`` are float32 (1, C, T, H, W), ``timestep`` is a scalar tensor."""

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the transformer takes: hidden states (1, C', T, H, W), and timesteps (1,) or one
        per token (1, N).
        """
        ...

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        """Clean latents as they are decoded."""
        ...


class NoImage:
    """There is no image."""

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return latents, timestep.expand(1)

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


class InChannels:
    """Wan I2V: beside the noise go a mask of the frames that are given, and the latents of
    image and empty frames.
    """

    def __init__(self, image: torch.Tensor, temporal_compression: int) -> None:
        """``image`` is float32 (1, C, T, H, W), normalised: as long as the video."""
        mask = image.new_zeros(1, temporal_compression, *image.shape[2:])
        mask[:, :, 0] = 1
        self._channels = torch.cat((mask, image), dim=1)

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat((latents, self._channels), dim=1), timestep.expand(1)

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


@dataclass(frozen=True)
class AsFirstFrame:
    """Wan 2.2 TI2V: each token has a timestep of its own. An image is the first latent frame,
    which is at no noise.

    ``image`` is float32 (1, C, t, H, W), normalised; t is 1, or 0 where there is no image.
    """

    image: torch.Tensor
    patch_size: int

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _, _, frames, height, width = latents.shape
        timesteps = timestep.float().repeat(frames)
        timesteps[: self.image.shape[2]] = 0
        tokens = (height // self.patch_size) * (width // self.patch_size)
        return self.leave(latents), timesteps.repeat_interleave(tokens)[None]

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.image, latents[:, :, self.image.shape[2] :]), dim=2)
