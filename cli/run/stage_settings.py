"""The settings of the stages, from the parameters of a command and the checkpoint."""

from __future__ import annotations

from dataclasses import asdict

from cli.params.stage_group import StageGroup
from cli.run.devices import Engines, Hardware, engines_of, flavour_of
from cli.run.flavours import require_engine_tiles
from cli.run.loras import lora_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.step_cache_table import load_table
from pipeline.errors import CheckpointError, InputError
from pipeline.families.step_cache.option import StepCacheOption
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.parallel.layout import Layout, check_text_ranks, resolve_layout
from pipeline.settings import (
    ComputeSettings,
    EncoderEngine,
    Flavour,
    StageSettings,
    VaeConfig,
)


def stage_settings(
    checkpoint: Checkpoint, stages: StageGroup, hardware: Hardware, *, has_graphs: bool = True
) -> StageSettings:
    """Return the settings for a Triton that is started by this command.

    ``has_graphs``: whether the cache has the graphs that the default settings need. Raises
    ``InputError`` for what its stages do not support.
    """
    engines = engines_of(stages, checkpoint.family, hardware, has_graphs=has_graphs)
    settings = settings_of(checkpoint, stages, engines)
    if settings.flavour == "tensorrt":
        return settings
    if settings.vae_precision == "bf16" and settings.vae_engine != "torch":
        raise InputError(
            "vae_precision",
            "bf16 needs --vae-engine torch: ONNX Runtime has no bf16 on a CPU",
        )
    if settings.encoder_engine == "graph" and "bf16" in settings.text_encoder_precisions:
        raise InputError(
            "text_encoder_precisions",
            "bf16 needs --encoder-engine torch: ONNX Runtime has no bf16 on a CPU",
        )
    return settings


def settings_of(checkpoint: Checkpoint, stages: StageGroup, engines: Engines) -> StageSettings:
    """Return the settings of stages for ``checkpoint`` whose parts ``engines`` run.

    Raises ``InputError`` where ranks or tiles do not fit the model.
    """
    flavour, layout = flavour_of(stages), _layout(checkpoint, stages)
    _check_encoders(checkpoint, stages, flavour, engines.encoder_engine)
    settings = StageSettings(
        **stages.model_dump(include=set(ComputeSettings.model_fields)),
        **asdict(engines),
        checkpoint=str(checkpoint.path),
        flavour=flavour,
        offload="layer" if stages.dit_layerwise_offload else "none",
        text_encoder_offload=stages.text_encoder_cpu_offload and engines.encoder_engine == "torch",
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        guidance_branches=layout.branches,
        vae_tiling=_tiles(checkpoint, stages),
        vae_devices=layout.ranks if stages.vae_sp else 1,
        vae_config=stages.vae_config or VaeConfig(),
        step_cache_table=_step_cache_table(checkpoint, stages),
        **lora_settings(checkpoint, stages),
    )
    require_engine_tiles(checkpoint.family, settings)
    if settings.vae_tiling:
        # Here, because it imports ONNX Runtime, which only tiles need.
        from pipeline.decoders.opening import tiling

        tiling(checkpoint.configs["vae"], settings)  # raises InputError where tiles do not fit
    return settings


def _step_cache_table(checkpoint: Checkpoint, stages: StageGroup) -> StepCacheTable | None:
    """Return the table that the option names; None if the model's own serves.

    Raises ``InputError`` for a model that has none, or whose steps are all needed.
    """
    option = StepCacheOption.parse(stages.step_cache)
    if option.on and checkpoint.info.defaults.denoising_timesteps:
        raise InputError(
            "step_cache", "not available; the model was distilled to few steps: all are computed"
        )
    if option.on and option.table is None and checkpoint.step_cache is None:
        raise InputError(
            "step_cache",
            f"not available; the model {checkpoint.info.name!r} has no table: "
            f"triton-video calibrate --model-path {checkpoint.path} makes one",
        )
    if option.table is None:
        return None
    try:
        return load_table(option.table, experts=len(checkpoint.family.transformers))
    except CheckpointError as error:
        raise InputError("step_cache", str(error)) from None


def _tiles(checkpoint: Checkpoint, stages: StageGroup) -> bool:
    if stages.vae_sp and stages.vae_tiling is False:
        raise InputError("vae_tiling", "must be on with vae_sp, which decodes tiles in parallel")
    if stages.vae_tiling is None:
        return stages.vae_sp or checkpoint.family.vae_tiling
    return stages.vae_tiling


def _layout(checkpoint: Checkpoint, stages: StageGroup) -> Layout:
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
    return layout


def _check_encoders(
    checkpoint: Checkpoint, stages: StageGroup, flavour: Flavour, engine: EncoderEngine
) -> None:
    if stages.text_encoder_cpu_offload and flavour == "tensorrt":
        raise InputError(
            "text_encoder_cpu_offload",
            "not available: TensorRT engines run on the GPU; "
            "the flavour python runs text encoders on the CPU",
        )
    if flavour != "python" and (engine == "torch" or stages.tp_size > 1):
        field = "tp_size" if stages.tp_size > 1 else "encoder_engine"
        raise InputError(field, f"needs the flavour python: {flavour} runs each graph whole")
    if stages.tp_size == 1:
        return
    if engine == "graph":
        raise InputError("tp_size", "needs --encoder-engine torch: a graph runs on one rank")
    if stages.text_encoder_cpu_offload:
        raise InputError(
            "tp_size",
            "should be 1 with text_encoder_cpu_offload, which keeps text encoders on the CPU",
        )
    check_text_ranks(checkpoint.configs["text_encoder"], stages.tp_size)
