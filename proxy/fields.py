"""The fields of a create request under this server's names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from pipeline.families import SamplingParams
from pipeline.families.sampling import MAX_SEED

RANDOM_SEED = -1
Metadata = dict[
    Annotated[str, Field(max_length=64)],
    Annotated[str, Field(max_length=512)] | bool | int | FiniteFloat,
]


class CreateVideo(SamplingParams):
    """The fields of a create request: OpenAI's, those of this server, and some of others."""

    model: str | None = Field(
        default=None, description="The model to use; this server's model by default."
    )
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Length in seconds; rounded to a length that the model can make.",
    )
    size: str | None = Field(
        default=None, description="WIDTHxHEIGHT in pixels; auto: the model's default."
    )
    seed: int | None = Field(
        default=None,
        ge=RANDOM_SEED,
        le=MAX_SEED,
        description="Random seed; the same seed gives the same video. -1: a random one.",
    )
    metadata: Metadata | None = Field(
        default=None,
        max_length=16,
        description="Up to 16 texts or numbers by name (64 characters each), kept with the video.",
    )
    user: str | None = Field(
        default=None, max_length=512, description="Accepted, without effect: keys tell users apart."
    )
    aspect_ratio: str | None = Field(
        default=None, description="WIDTH:HEIGHT, such as 16:9, instead of `size`; or auto."
    )
    resolution: str | None = Field(
        default=None, description="The short side, such as 720p, instead of `size`; or auto."
    )
    boundary_ratio: float | None = Field(
        default=None, ge=0, le=1, description="Accepted where it is that of the checkpoint."
    )
    true_cfg_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Accepted where it is the `guidance_scale`, or off where guidance is built in.",
    )
