"""Split a clip in time for a decoder that is not causal, and join the decoded windows. Both follow
diffusers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.decoders.tiling import fade
from pipeline.errors import InputError


@dataclass(frozen=True)
class Windows:
    """Frames of a window and the stride between windows; both are multiples of the frames of a
    latent frame, ``per_latent``.

    A window has one more latent frame, whose single frame the previous window has too. Raises
    InputError for sizes that leave gaps or are not multiples.
    """

    frames: int
    stride: int
    per_latent: int

    def __post_init__(self) -> None:
        for name, value in (("min", self.frames), ("stride", self.stride)):
            if value < self.per_latent or value % self.per_latent:
                field = f"vae_config.tile_sample_{name}_num_frames"
                raise InputError(field, f"{value} should be a multiple of {self.per_latent}")
        if self.stride > self.frames:
            field = "vae_config.tile_sample_stride_num_frames"
            raise InputError(field, f"{self.stride} leaves gaps between windows of {self.frames}")

    def cuts(self, latent_frames: int) -> bool:
        """Return whether ``latent_frames`` latent frames need more than one window."""
        return latent_frames * self.per_latent > self.frames

    def spans(self, latent_frames: int) -> list[slice]:
        """Return the latent frames of each window. A window that would hold only shared frames is
        omitted.
        """
        size, stride = self.frames // self.per_latent, self.stride // self.per_latent
        return [slice(at, at + size + 1) for at in range(0, max(1, latent_frames - 1), stride)]

    def join(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Join decoded windows, float32 [t, H, W, 3], into the frames of the clip; each window
        is blended with the previous one.
        """
        overlap = self.frames - self.stride
        before: np.ndarray | None = None
        for frames in windows:
            shared = 0 if before is None else 1
            frames = frames[shared:].copy()
            if before is not None:
                fade(before, frames, overlap, axis=0)
            before = (
                frames[len(frames) - overlap :].copy()
                if 0 < overlap <= len(frames)
                else frames.copy()
            )
            yield frames[: self.stride + 1 - shared]
