"""What a rendered stage is told: ``stage.json`` beside its ``model.py``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from pipeline.families.bounds import Bounds
from pipeline.families.parts import Part
from pipeline.json_record import load_record, save_record
from pipeline.system.native_paths import native_path

FILE_NAME = "stage.json"
Precision = Literal["fp32", "bf16"]
Resident = Literal["all", "expert", "block"]
"""All weights; one of two experts; or the blocks of a transformer one after the other."""
VaeEngine = Literal["chunked", "tile", "torch"]
GraphPrecision = Literal["fp32", "bf16", "fp16"]
# diffusers' own sizes, of which the stride is the same share of a tile of another size
TILE, STRIDE = 256, 192


class VaeConfig(BaseModel):
    """Sizes of the VAE's tiles, in pixels, under diffusers' names. A stride not given is 3/4 of
    a tile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_encoder: Literal[False] = Field(
        default=False,
        description="Accepted for compatibility: it is loaded where a model takes pictures.",
    )
    load_decoder: Literal[True] = Field(
        default=True, description="Accepted for compatibility: it is always loaded."
    )
    tile_sample_min_height: int = Field(default=TILE, ge=1, description="Height of a tile.")
    tile_sample_min_width: int = Field(default=TILE, ge=1, description="Width of a tile.")
    tile_sample_stride_height: int | None = Field(
        default=None, ge=1, description="From a tile to the one below it."
    )
    tile_sample_stride_width: int | None = Field(
        default=None, ge=1, description="From a tile to the one beside it."
    )

    tile_sample_min_num_frames: int = Field(
        default=16, ge=1, description="Frames of a window (HunyuanVideo)."
    )
    tile_sample_stride_num_frames: int | None = Field(
        default=None, ge=1, description="Frames from a window to the next one (HunyuanVideo)."
    )

    def stride_height(self, cell: int) -> int:
        """The stride in multiples of `cell` pixels."""
        return self.tile_sample_stride_height or _stride(self.tile_sample_min_height, cell)

    def stride_width(self, cell: int) -> int:
        return self.tile_sample_stride_width or _stride(self.tile_sample_min_width, cell)

    def stride_frames(self, per_latent: int) -> int:
        """The stride in multiples of a latent frame's frames."""
        return self.tile_sample_stride_num_frames or _stride(
            self.tile_sample_min_num_frames, per_latent
        )


def _stride(tile: int, cell: int) -> int:
    return max(cell, tile * STRIDE // TILE // cell * cell)


class StageSettings(BaseModel):
    """Where the weights are and how to compute. The same file lies in every stage's version
    folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: str = Field(description="Absolute path of the Diffusers checkpoint folder.")
    precision: Precision = Field(
        default="fp32", description="Data type the transformer computes in."
    )
    text_encoder_precisions: tuple[GraphPrecision, ...] = Field(
        default=(),
        description="Data type of each text encoder, in order; fp32 where none is given.",
    )
    tp_size: int = Field(default=1, ge=1, description="Ranks that share the first text encoder.")
    threads: int = Field(
        default=0, ge=0, description="CPU threads per stage; 0 means as many as there are cores."
    )
    resident: Resident = Field(
        default="all", description="What of the transformers is on a GPU at the same time."
    )
    pin_cpu_memory: bool = Field(
        default=False, description="Whether what is not there waits in pinned memory."
    )
    batching_max_size: int = Field(
        default=1, ge=1, description="Requests of one shape that are denoised together."
    )
    vae_engine: VaeEngine = Field(default="chunked", description="How the VAE decodes.")
    vae_precision: GraphPrecision = Field(
        default="fp32", description="Data type the VAE computes in."
    )
    vae_tiling: bool = Field(
        default=False, description="Whether frames larger than a tile are decoded in tiles."
    )
    vae_config: VaeConfig = Field(default=VaeConfig(), description="Sizes of tiles.")

    vae_devices: int = Field(default=1, ge=1, description="Devices that decode tiles side by side.")
    ulysses_degree: int = Field(
        default=1, ge=1, description="Ranks that trade sequence for heads (Ulysses)."
    )
    ring_degree: int = Field(
        default=1, ge=1, description="Ranks that pass keys and values round (Ring)."
    )
    bounds: Bounds = Field(
        default=Bounds(), description="Limits of a request, which the tokenizer enforces."
    )
    guidance_branches: int = Field(
        default=1, ge=1, le=2, description="2: guidance's branches on ranks of their own."
    )

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint's folder, for any interpreter."""
        return native_path(self.checkpoint)

    def save(self, folder: Path) -> None:
        save_record(self, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``stage.json`` in ``folder``; raises ``CheckpointError`` when it is missing or
        wrong.
        """
        return load_record(cls, folder / FILE_NAME, "a stage description")


def graph_precision(
    part: Part, text_encoders: Sequence[GraphPrecision], vae: GraphPrecision
) -> GraphPrecision:
    """Data type of a part's graphs: each text encoder's own, the VAE's, or fp32.

    ``text_encoders`` may list fewer than there are; the others have fp32.
    """
    if part.kind == "text":
        return text_encoders[part.index] if part.index < len(text_encoders) else "fp32"
    return vae if part.kind == "vae" else "fp32"
