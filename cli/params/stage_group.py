"""The options of the stages: how text encoders, transformer and VAE compute."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cli.params.field_types import RankCount
from cli.params.lora import LoraTexts
from pipeline.families.paths import CleanPath
from pipeline.settings import ComputeSettings, TextPrecisions, VaeConfig


class StageGroup(ComputeSettings):
    """How the stages compute.

    Most options are those of `ComputeSettings`. The others here are resolved for a checkpoint by
    `cli.run.stage_settings`.
    """

    flavour: Literal["auto", "python", "onnxruntime", "tensorrt"] = Field(
        "auto",
        description="What runs text encoders and VAE: Triton's python backend, or its onnxruntime "
        "or tensorrt backend; auto: python.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Data type the transformer computes in; auto suits the device."
    )
    text_encoder_precisions: TextPrecisions = Field(
        default=(),
        description="Data type of each text encoder, in order; what suits the device where none "
        "is given.",
    )
    encoder_engine: Literal["auto", "graph", "torch"] = Field(
        "auto",
        description="What runs the encoders of texts and images: exported graphs, or torch. auto: "
        "torch on a GPU.",
    )
    vae_engine: Literal["auto", "chunked", "tile", "torch"] = Field(
        "auto",
        description="How the VAE decodes: frame by frame with caches, whole clips at once, or in "
        "torch. auto: in torch on a GPU.",
    )
    vae_precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Data type the VAE computes in; auto suits the device."
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
        description="Run the conditional and unconditional branches on separate ranks (CFG "
        "parallelism). Default: on if num_gpus is twice sp_size.",
    )
    text_encoder_cpu_offload: bool = Field(
        False,
        description="Keep text encoders in CPU memory and copy each to the GPU for a prompt. "
        "Exported graphs always run on the CPU.",
    )
    dit_layerwise_offload: bool = Field(
        False,
        description="Keep the transformer in CPU memory and swap its blocks to the GPU one by one.",
    )
    vae_tiling: bool | None = Field(
        None,
        description="Decode frames larger than a tile in tiles: less memory, more time. Default: "
        "on for HunyuanVideo, and with vae_sp.",
    )
    vae_sp: bool = Field(
        False, description="Decode in tiles, in parallel on the devices of all ranks."
    )
    lora: LoraTexts = Field(
        (),
        description="LoRA to apply, as NAME=PATH[:SCALE], or NAME[:SCALE] for one of --lora-path. "
        "May be repeated.",
    )
    lora_path: CleanPath | None = Field(
        None,
        description="Folder of LoRAs that requests may use by name. Without it the LoRAs of --lora "
        "are merged into the weights, and requests cannot choose.",
    )
    vae_config: VaeConfig | None = Field(
        None, description="Sizes of the tiles, named as in diffusers (tile_sample_min_height, ...)."
    )
