"""A complete request for a video."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.families.lora import LoraUse
from pipeline.families.step_cache.table import Level


class VideoRequest(BaseModel):
    """A request with all defaults filled in, as the stages of the pipeline pass it on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int
    width: int
    num_frames: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float | None = None
    flow_shift: float | None
    lora: tuple[LoraUse, ...] = ()
    seed: int
    step_cache: Level | None = None
    """None is the default of the server."""
    return_frames: bool = False
