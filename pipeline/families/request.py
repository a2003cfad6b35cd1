"""A complete request for a video."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.families.family import MAX_FRAMES
from pipeline.families.lora import LoraUse
from pipeline.families.step_cache.table import Level

NOT_SAMPLING = {
    "return_frames",
    "last_frame",
    "source_frames",
    "prefix_frames",
    "peak_memory_bytes",
}


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
    strength: float | None = None
    """Set for an edit of an input video."""
    last_frame: bool = False
    """Whether the video ends with an image."""
    source_frames: int = Field(default=0, ge=0, le=MAX_FRAMES)
    """Frames of the video that an extension continues; the result begins with them."""
    prefix_frames: int = Field(default=0, ge=0, le=MAX_FRAMES)
    """Of these the last ones, which are the first of the ``num_frames`` that the model makes."""
    return_frames: bool = False
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=1 << 60)
    """The most memory that the leading rank used while it denoised; set once it is done."""

    @property
    def total_frames(self) -> int:
        """The number of frames of the finished video."""
        return self.source_frames + self.num_frames - self.prefix_frames

    @property
    def first_step(self) -> int:
        """The denoising step at which an edit begins, as in diffusers' pipelines; otherwise 0."""
        steps, strength = self.num_inference_steps, self.strength
        return 0 if strength is None else max(0, steps - int(steps * strength))

    def sampling(self) -> dict[str, Any]:
        """Return the values of `SamplingParams`, without texts, that make this request again."""
        values = {name: value for name, value in self if name not in NOT_SAMPLING}
        if self.source_frames:
            values["num_frames"] = self.num_frames - self.prefix_frames + 1
        return values
