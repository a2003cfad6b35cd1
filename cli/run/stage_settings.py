"""The settings of the stages, from the parameters of a command and the checkpoint."""

from __future__ import annotations

from cli.params.stage_group import StageGroup
from cli.run.flavours import require_engine_tiles
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.parallel.layout import check_text_ranks, resolve_layout
from pipeline.settings import (
    ComputeSettings,
    Flavour,
    GraphPrecision,
    Precision,
    StageSettings,
    VaeConfig,
)

AUTO_PRECISION: Precision = "fp32"
# TensorRT and Triton's onnxruntime backend have not been measured beside it on a GPU.
AUTO_FLAVOUR: Flavour = "python"


def stage_settings(checkpoint: Checkpoint, stages: StageGroup) -> StageSettings:
    """Return the settings for a Triton that is started by this command.

    Raises ``InputError`` for what its stages do not support.
    """
    settings = settings_of(checkpoint, stages)
    if settings.flavour == "tensorrt":
        return settings
    if settings.vae_precision == "bf16" and settings.vae_engine != "torch":
        raise InputError(
            "vae_precision",
            "bf16 needs --vae-engine torch: ONNX Runtime has no bf16 on a CPU",
        )
    # The first text encoder runs in torch where ranks share it.
    if "bf16" in settings.text_encoder_precisions[1 if settings.tp_size > 1 else 0 :]:
        raise InputError(
            "text_encoder_precisions", "should be fp32 or fp16: ONNX Runtime has no bf16 on a CPU"
        )
    return settings


def flavour_of(stages: StageGroup) -> Flavour:
    """Return the flavour, with ``auto`` decided."""
    return AUTO_FLAVOUR if stages.flavour == "auto" else stages.flavour


def settings_of(checkpoint: Checkpoint, stages: StageGroup) -> StageSettings:
    """Return the settings of stages for ``checkpoint``.

    Raises ``InputError`` where ranks or tiles do not fit the model.
    """
    flavour = flavour_of(stages)
    layout = resolve_layout(
        stages.num_gpus,
        stages.sp_size,
        stages.ulysses_degree,
        stages.ring_degree,
        stages.cfg_parallel,
    )
    if layout.branches > 1 and checkpoint.family.guidance_embedded:
        raise InputError(
            "cfg_parallel",
            f"not available: {checkpoint.family.name} has one pass per step; "
            "increase sp_size instead",
        )
    if stages.text_encoder_cpu_offload and flavour == "tensorrt":
        raise InputError(
            "text_encoder_cpu_offload",
            "not available: TensorRT engines run on the GPU; "
            "the flavour python runs text encoders on the CPU",
        )
    _check_text_ranks(checkpoint, stages, flavour)
    settings = StageSettings(
        **stages.model_dump(
            include=set(ComputeSettings.model_fields) - {"text_encoder_precisions"}
        ),
        checkpoint=str(checkpoint.path),
        flavour=flavour,
        text_encoder_precisions=_text_precisions(checkpoint, stages, flavour),
        precision=AUTO_PRECISION if stages.precision == "auto" else stages.precision,
        offload="layer" if stages.dit_layerwise_offload else "none",
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        guidance_branches=layout.branches,
        vae_tiling=_tiles(checkpoint, stages),
        vae_devices=layout.ranks if stages.vae_sp else 1,
        vae_config=stages.vae_config or VaeConfig(),
    )
    require_engine_tiles(checkpoint.family, settings)
    if settings.vae_tiling:
        # Here, because it imports ONNX Runtime, which only tiles need.
        from pipeline.decoders.opening import tiling

        tiling(checkpoint.configs["vae"], settings)  # raises InputError where tiles do not fit
    return settings


def _tiles(checkpoint: Checkpoint, stages: StageGroup) -> bool:
    if stages.vae_sp and stages.vae_tiling is False:
        raise InputError("vae_tiling", "must be on with vae_sp, which decodes tiles in parallel")
    if stages.vae_tiling is None:
        return stages.vae_sp or checkpoint.family.vae_tiling
    return stages.vae_tiling


def _text_precisions(
    checkpoint: Checkpoint, stages: StageGroup, flavour: Flavour
) -> tuple[GraphPrecision, ...]:
    """Return the data types of the text encoders. An engine in fp32 would take twice the GPU
    memory: 23 GB for UMT5.
    """
    if flavour == "tensorrt" and not stages.text_encoder_precisions:
        return ("bf16",) * len(checkpoint.family.text_encoders)
    return stages.text_encoder_precisions


def _check_text_ranks(checkpoint: Checkpoint, stages: StageGroup, flavour: Flavour) -> None:
    if stages.tp_size == 1:
        return
    if flavour != "python":
        raise InputError("tp_size", f"needs the flavour python: {flavour} runs each graph whole")
    if stages.text_encoder_cpu_offload:
        raise InputError(
            "tp_size",
            "should be 1 with text_encoder_cpu_offload, which keeps text encoders on the CPU",
        )
    if stages.text_encoder_precisions[:1] == ("fp16",):
        raise InputError(
            "text_encoder_precisions",
            "should be fp32 or bf16 with tp_size, which runs the first in torch",
        )
    check_text_ranks(checkpoint.configs["text_encoder"], stages.tp_size)
