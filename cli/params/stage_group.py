"""The options of the stages: how text encoders, transformer and VAE compute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cli.params.field_types import RankCount
from export.options import Precision as GraphPrecision
from pipeline.families.comma_separated import comma_separated
from pipeline.settings import VaeConfig, VaeEngine


class StageGroup(BaseModel):
    """How the stages compute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Data type the transformer computes in; auto picks what suits the device.",
    )
    tp_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Ranks that share the first text encoder, with some of its heads each.",
    )
    text_encoder_precisions: Annotated[
        tuple[GraphPrecision, ...], BeforeValidator(comma_separated)
    ] = Field((), description="Data type of each text encoder, in order; fp32 where none is given.")
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads per stage; 0 is as many as there are cores."
    )
    num_gpus: RankCount = Field(
        None, description="Ranks that run the transformer: GPUs, or processes on a CPU."
    )
    sp_size: RankCount = Field(
        None, description="Ranks that share a sequence: ulysses_degree x ring_degree."
    )
    ulysses_degree: RankCount = Field(
        None, description="Ranks that trade tokens for attention heads (Ulysses)."
    )
    ring_degree: RankCount = Field(
        None, description="Ranks that pass keys and values round (Ring)."
    )
    cfg_parallel: bool | None = Field(
        None,
        description="Guidance's two branches on ranks of their own. None: where num_gpus is twice sp_size.",
    )
    text_encoder_cpu_offload: bool = Field(
        False, description="Keep text encoders in CPU memory, where ONNX Runtime keeps them anyway."
    )
    dit_layerwise_offload: bool = Field(
        False,
        description="Keep the transformer in CPU memory and bring its blocks to the GPU one after the other.",
    )
    pin_cpu_memory: bool = Field(
        False,
        description="Pin what waits in CPU memory for the GPU: quicker to copy, and never swapped out.",
    )
    batching_max_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Requests of one size that wait together and are denoised as one batch.",
    )
    vae_engine: VaeEngine = Field(
        "chunked",
        description="How the VAE decodes: frame by frame with caches, whole clips at once, or in torch.",
    )
    vae_precision: GraphPrecision = Field("fp32", description="Data type the VAE computes in.")
    vae_tiling: bool = Field(
        False, description="Decode frames larger than a tile in tiles: less memory, more time."
    )
    vae_sp: bool = Field(
        False, description="Decode in tiles, on the devices of all ranks side by side."
    )
    vae_config: VaeConfig | None = Field(
        None,
        description="Sizes of the tiles: tile_sample_min_height and so on, as diffusers calls them.",
    )
