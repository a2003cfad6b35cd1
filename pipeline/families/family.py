"""The description of a model family; each family is one module beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.families.parts import TRANSFORMERS, VAE_DECODER, VAE_ENCODER, Part

MAX_SIDE = 4096
MAX_FRAMES = 1025
MAX_STEPS = 1000


class Defaults(BaseModel):
    """Default values of a request. A checkpoint may override those of its family in
    ``triton_video.json``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=1, le=MAX_SIDE, description="Native height in pixels.")
    width: int = Field(ge=1, le=MAX_SIDE, description="Native width in pixels.")
    num_frames: int = Field(ge=1, le=MAX_FRAMES, description="Native number of frames.")
    fps: int = Field(ge=1, le=120, description="Frames per second the model was trained at.")
    num_inference_steps: int = Field(ge=1, le=MAX_STEPS, description="Denoising steps.")
    guidance_scale: float = Field(
        ge=0, le=100, description="Classifier-free guidance scale; 1 or less is off."
    )
    guidance_scale_2: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="The same for the second expert; None where there is one transformer.",
    )
    negative_prompt: str = Field(max_length=32_000, description="What guidance steers away from.")
    denoising_timesteps: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = Field(
        default=None,
        max_length=MAX_STEPS,
        description="Timesteps, of 1000, of a model distilled to few steps (DMD); "
        "None: a schedule.",
    )
    max_sequence_length: int = Field(
        ge=1, le=4096, description="Text tokens the transformer was trained with."
    )


InputUse = Literal["refused", "optional", "required"]
"""Whether a model takes an input, such as a reference image."""

FAMILY_MARKS = ("transformer_2", "boundary_ratio", "expand_timesteps", "image_encoder")
"""Keys of ``model_index.json`` that distinguish families with the same pipeline class, by whether
they are set.
"""


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint: the contents of its folder, the exported parts and the defaults.

    A checkpoint belongs to the family whose ``pipeline_classes`` contain its pipeline class and
    whose ``marks`` are exactly the `FAMILY_MARKS` that are set in it. ``components`` maps each
    folder of a Diffusers checkpoint to the classes that ``model_index.json`` may name for it.
    ``parts`` are the exported parts of a model repository, in order. ``guidance_embedded`` means
    that the guidance scale is an input of the transformer, which needs no second pass.
    ``prompt_template`` has ``{}`` in place of the first text encoder's prompt; the embeddings of
    the ``template_tokens`` before it are cut off. Without a template, prompts are cleaned as in
    Wan's pipeline. ``vae_tiling``: the VAE decodes in tiles by default, because whole frames take
    tens of gigabytes. A family that ``edits`` makes a video of another one, one that
    ``edits_with_encoder`` does if the VAE's encoder is loaded too, and one that ``extends``
    continues it. ``unused_weights`` are patterns of weight names that a transformer's
    files may hold and that are not loaded. ``vae_on_gpu`` is the data type in which the VAE decodes
    on a GPU by default. The largest side, frame and step counts limit every request, whatever the
    checkpoint.
    """

    name: str
    pipeline_classes: tuple[str, ...]
    components: Mapping[str, tuple[str, ...]]
    parts: tuple[Part, ...]
    defaults: Defaults
    max_side: int
    max_frames: int
    max_steps: int
    marks: frozenset[str] = frozenset()
    image: InputUse = "refused"
    last_frame: InputUse = "refused"
    edits: bool = False
    edits_with_encoder: bool = False
    extends: bool = False
    guidance_embedded: bool = False
    prompt_template: str | None = None
    template_tokens: int = 0
    vae_tiling: bool = False
    unused_weights: tuple[str, ...] = ()
    vae_on_gpu: Literal["fp32", "bf16", "fp16"] = "bf16"

    @property
    def transformers(self) -> tuple[str, ...]:
        """The folders of the transformers: one, or two experts, the high-noise expert first."""
        return tuple(name for name in TRANSFORMERS if name in self.components)

    @property
    def text_encoders(self) -> tuple[Part, ...]:
        """The text encoders, in order. The ``preprocessor`` of each is its tokenizer's folder."""
        return tuple(part for part in self.parts if part.kind == "text")

    def with_vae_encoder(self) -> Family:
        """Return the family as it is if the VAE's encoder is loaded too."""
        at = self.parts.index(VAE_DECODER)
        parts = (*self.parts[:at], VAE_ENCODER, *self.parts[at:])
        return self if VAE_ENCODER in self.parts else replace(self, parts=parts, edits=True)

    @property
    def image_in_channels(self) -> bool:
        """Whether the transformers take the image's latents and a mask as extra channels.

        Transformers with such channels always need an image.
        """
        return self.image == "required"

    def recognised_by(self) -> str:
        """Describe what identifies a checkpoint of this family, for error messages."""
        classes = " or ".join(self.pipeline_classes)
        return (
            f"{classes} with {' and '.join(m for m in FAMILY_MARKS if m in self.marks)}"
            if self.marks
            else classes
        )
