"""The description of a model family; each family is one module beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

MAX_SIDE = 4096
MAX_FRAMES = 1025
MAX_STEPS = 1000


class Defaults(BaseModel):
    """What a request that leaves a value out gets. A checkpoint may override its family's in ``triton_video.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=1, le=MAX_SIDE, description="Native height in pixels.")
    width: int = Field(ge=1, le=MAX_SIDE, description="Native width in pixels.")
    num_frames: int = Field(ge=1, le=MAX_FRAMES, description="Native number of frames.")
    fps: int = Field(ge=1, le=120, description="Frames per second the model was trained at.")
    num_inference_steps: int = Field(ge=1, le=MAX_STEPS, description="Denoising steps.")
    guidance_scale: float = Field(ge=0, le=100, description="Classifier-free guidance scale; 1 or less is off.")
    negative_prompt: str = Field(max_length=32_000, description="What guidance steers away from.")
    max_sequence_length: int = Field(ge=1, le=4096, description="Text tokens the transformer was trained with.")


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint: what its folder holds and what it makes by default.

    ``components`` maps each folder of a Diffusers checkpoint to the classes it may name in ``model_index.json``.
    The largest side, frame and step counts bound what a request may ask for, whatever the checkpoint.
    """

    name: str
    pipeline_class: str
    components: Mapping[str, tuple[str, ...]]
    defaults: Defaults
    max_side: int
    max_frames: int
    max_steps: int
