"""Combine a video's latents with its reference image, before the transformer and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class ImageConditioning(Protocol):
    """Combines latents with an image. ``latents`` are float32 (1, C, T, H, W), ``timestep`` is a
    scalar tensor.
    """

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs of the transformer: hidden states (1, C', T, H, W), and timesteps (1,)
        or one per token (1, N).
        """
        ...

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the clean latents to decode."""
        ...

    @property
    def given_frames(self) -> int:
        """Return the number of latent frames at the beginning that images give."""
        ...


class NoImage:
    """Conditioning for a video without an image: latents and timestep pass through unchanged."""

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return latents, timestep.expand(1)

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    @property
    def given_frames(self) -> int:
        return 0


class InChannels:
    """Wan I2V: adds channels to the noise, with a mask of the given frames and the latents of the
    images and the empty frames after the first one.
    """

    def __init__(
        self, image: torch.Tensor, temporal_compression: int, *, last: bool = False
    ) -> None:
        """``image`` is float32 (1, C, T, H, W), normalised and as long as the video. ``last``: its
        last frame is an image too.
        """
        mask = image.new_zeros(1, temporal_compression, *image.shape[2:])
        mask[:, :, 0] = 1
        if last:
            mask[:, -1, -1] = 1
        self._channels = torch.cat((mask, image), dim=1)

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat((latents, self._channels), dim=1), timestep.expand(1)

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    @property
    def given_frames(self) -> int:
        return 1


@dataclass(frozen=True)
class AsFirstFrame:
    """Wan 2.2 TI2V: each token has its own timestep. An image is the first latent frame, which has
    no noise; so are the first ones of an extension.

    ``image`` is float32 (1, C, t, H, W), normalised.
    """

    image: torch.Tensor
    patch_size: int

    def enter(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _, _, frames, height, width = latents.shape
        timesteps = timestep.float().repeat(frames)
        timesteps[: self.given_frames] = 0
        tokens = (height // self.patch_size) * (width // self.patch_size)
        return self.leave(latents), timesteps.repeat_interleave(tokens)[None]

    def leave(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.image, latents[:, :, self.given_frames :]), dim=2)

    @property
    def given_frames(self) -> int:
        return self.image.shape[2]
