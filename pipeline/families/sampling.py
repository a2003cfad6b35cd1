"""The sampling parameters of a request.

Flags, config files, Triton tensors and the HTTP API all derive from this declaration.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipeline.families.family import MAX_FRAMES, MAX_SIDE, MAX_STEPS
from pipeline.families.lora import LoraUses
from pipeline.families.step_cache.table import Level

MAX_PROMPT_CHARACTERS = 32_000
MAX_SEED = 2**63 - 1


class SamplingParams(BaseModel):
    """The parameters of a video that a caller may set.

    ``None`` means the model's default; for the seed it means a random one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(
        min_length=1, max_length=MAX_PROMPT_CHARACTERS, description="Text description of the video."
    )
    negative_prompt: str | None = Field(
        default=None, max_length=MAX_PROMPT_CHARACTERS, description="What to steer away from."
    )
    height: int | None = Field(default=None, ge=1, le=MAX_SIDE, description="Height in pixels.")
    width: int | None = Field(default=None, ge=1, le=MAX_SIDE, description="Width in pixels.")
    num_frames: int | None = Field(
        default=None, ge=1, le=MAX_FRAMES, description="Number of frames."
    )
    fps: int | None = Field(
        default=None, ge=1, le=120, description="Frames per second of the saved video."
    )
    num_inference_steps: int | None = Field(
        default=None, ge=1, le=MAX_STEPS, description="Number of denoising steps."
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Classifier-free guidance scale; 1 or less turns it off.",
    )
    guidance_scale_2: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="The same for the expert of low noise, where a model has two.",
    )
    flow_shift: float | None = Field(
        default=None,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="Shift of the noise schedule towards high noise.",
    )
    step_cache: Level | None = Field(
        default=None,
        description="Faster, less exact: at most 1/1.5 or 1/2 of the steps are computed, and the "
        "others reuse a result. Default: the server's.",
    )
    lora: LoraUses | None = Field(
        default=None,
        description="LoRAs to apply, each with a name and a scale, [] for none; in a form, as JSON "
        "text.",
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the steps that an edit makes of its input video: a low one keeps it, "
        "1 makes a new one. Without it, an input video is extended.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Random seed; the same seed gives the same video.",
    )
