"""Limits that an operator sets for one request, in addition to the model's own."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import InputError
from pipeline.families.request import VideoRequest


class Bounds(BaseModel):
    """Limits of one request. None means the default of the device where Triton starts; elsewhere,
    it means no limit, as 0 always does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: int | None = Field(
        default=None, ge=0, description="Largest width x height of a video; 0: no limit."
    )
    max_frames: int | None = Field(
        default=None, ge=0, description="Largest number of frames of a video; 0: no limit."
    )
    max_steps: int | None = Field(
        default=None, ge=0, description="Most denoising steps of a video; 0: no limit."
    )
    max_cost: int | None = Field(
        default=None, ge=0, description="Largest steps x width x height x frames; 0: no limit."
    )

    def check(self, request: VideoRequest) -> None:
        """Raise ``InputError`` with field, limit and flag when a request exceeds a limit."""
        pixels, frames = request.width * request.height, request.num_frames
        steps = request.num_inference_steps
        size = f"{request.width}x{request.height}"
        _check("width", self.max_pixels, pixels, f"{size} has {pixels:,} pixels", "--max-pixels")
        _check("num_frames", self.max_frames, frames, f"{frames} is too many", "--max-frames")
        _check("num_inference_steps", self.max_steps, steps, f"{steps} is too many", "--max-steps")
        cost = steps * pixels * frames
        what = f"{steps} steps of {frames} frames of {size} cost {cost:,} (their product)"
        _check("num_inference_steps", self.max_cost, cost, what, "--max-cost")

    def max_area(self, frames: int, steps: int) -> int | None:
        """Return the largest width x height of a video of ``frames`` and ``steps``; None: any."""
        limits = [self.max_pixels] if self.max_pixels else []
        if self.max_cost:
            limits.append(self.max_cost // (steps * frames))
        return min(limits, default=None)

    def settled(self, device: Bounds) -> Self:
        """Return these limits, with the limits of ``device`` in place of None."""
        return self.model_copy(
            update={name: value for name, value in device if getattr(self, name) is None}
        )

    def tightened(self, other: Bounds) -> Bounds:
        """Return the lower of the two limits in each field; None and 0 are no limit."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in Bounds.model_fields}
        return Bounds(
            **{name: min(filter(None, pair), default=None) for name, pair in pairs.items()}
        )


# How these numbers were derived: docs/architecture/12-memory.md#limits-of-a-request
CPU = Bounds(max_pixels=1280 * 720, max_frames=129, max_steps=200, max_cost=200_000_000)
GPU = Bounds(max_pixels=1280 * 1280, max_frames=257, max_steps=200, max_cost=8_000_000_000)


def _check(field: str, limit: int | None, asked: int, what: str, flag: str) -> None:
    if limit and asked > limit:
        raise InputError(field, f"{what}; this server allows at most {limit:,} ({flag})")
