"""Describes the served models: OpenAI's Model, and what a video of each may be."""

from __future__ import annotations

from math import log
from typing import Literal

from pydantic import BaseModel, Field

from pipeline.families import ModelInfo

SAME_RATIO = 0.05  # the largest difference of the logarithms of two aspect ratios that count as one
ASPECT_RATIOS = ((16, 9), (4, 3), (1, 1), (3, 4), (9, 16))


class ModelVideo(BaseModel):
    """The values of a create request that the model accepts, and its defaults."""

    input_reference: Literal["refused", "optional", "required"] = Field(
        description="Whether a video begins from a reference image."
    )
    last_frame: Literal["refused", "optional", "required"] = Field(
        description="Whether a video ends with an image."
    )
    edits: bool = Field(description="Whether the model edits videos.")
    extends: bool = Field(description="Whether the model extends videos.")
    size: str = Field(description="Default size, WIDTHxHEIGHT in pixels.")
    sizes: list[str] = Field(
        description="Some sizes with about as many pixels as the default, which is the first."
    )
    size_multiple: int = Field(description="Width and height are multiples of it.")
    max_side: int = Field(description="Largest width and height.")
    max_pixels: int | None = Field(description="Largest width x height, where it is limited.")
    num_frames: int = Field(description="Default number of frames.")
    frame_step: int = Field(description="The number of frames is 1 more than a multiple of it.")
    max_frames: int = Field(description="Largest number of frames.")
    fps: int = Field(description="Default frames per second.")
    num_inference_steps: int = Field(description="Default number of denoising steps.")
    min_steps: int = Field(description="Fewest steps; as many as the most for a distilled model.")
    max_steps: int = Field(description="Most steps.")
    max_cost: int | None = Field(
        description="Largest steps x width x height x frames, where it is limited."
    )
    guidance_scale: float = Field(description="Default guidance scale.")
    guidance_scale_2: float | None = Field(
        description="Default of the second expert; null for a model with one."
    )
    negative_prompt: str = Field(description="Default negative prompt.")

    @classmethod
    def of(cls, info: ModelInfo) -> ModelVideo:
        defaults, bounds = info.defaults, info.bounds
        most_frames, most_steps = (
            min(filter(None, limits))
            for limits in (
                (info.max_frames, bounds.max_frames),
                (info.max_steps, bounds.max_steps),
            )
        )
        distilled = defaults.denoising_timesteps
        step = info.temporal_compression
        return cls(
            input_reference=info.image,
            last_frame=info.last_frame,
            edits=info.edits,
            extends=info.extends,
            size=f"{defaults.width}x{defaults.height}",
            sizes=_sizes(info),
            size_multiple=info.size_multiple,
            max_side=info.max_side // info.size_multiple * info.size_multiple,
            max_pixels=bounds.max_pixels or None,
            num_frames=defaults.num_frames,
            frame_step=step,
            max_frames=(most_frames - 1) // step * step + 1,
            fps=defaults.fps,
            num_inference_steps=defaults.num_inference_steps,
            min_steps=len(distilled) if distilled else 1,
            max_steps=len(distilled) if distilled else most_steps,
            max_cost=bounds.max_cost or None,
            guidance_scale=defaults.guidance_scale,
            guidance_scale_2=defaults.guidance_scale_2,
            negative_prompt=defaults.negative_prompt,
        )


class Model(BaseModel):
    """A model. ``video`` and ``loras`` are additions of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "triton-video"
    video: ModelVideo
    loras: list[str] = Field(description="Names of the LoRAs that a request may use.")

    @classmethod
    def of(cls, name: str, info: ModelInfo) -> Model:
        loras = [lora.name for lora in info.loras.available]
        return cls(id=name, video=ModelVideo.of(info), loras=loras)


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


def _sizes(info: ModelInfo) -> list[str]:
    """Return the default size, the same upright or lying, and one for each of `ASPECT_RATIOS`.

    Left out are sizes beyond the bounds, and those nearly of the aspect ratio of another.
    """
    default = (info.defaults.width, info.defaults.height)
    most, sizes = info.bounds.max_pixels, [default]
    for width, height in (default[::-1], *(info.size_like(*ratio) for ratio in ASPECT_RATIOS)):
        fits = not most or width * height <= most
        if fits and all(abs(log(width * y / (height * x))) > SAME_RATIO for x, y in sizes):
            sizes.append((width, height))
    return [f"{width}x{height}" for width, height in sizes]
