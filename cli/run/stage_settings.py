"""The settings of the stages, from the parameters of a command and the checkpoint."""

from __future__ import annotations

from cli.params.groups import ExportParams, StageParams
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.parallel.layout import check_text_ranks, resolve_layout
from pipeline.settings import Precision, StageSettings, VaeConfig

AUTO_PRECISION: Precision = "fp32"


def stage_settings(checkpoint: Checkpoint, server: StageParams) -> StageSettings:
    """What the stages of a Triton that is started here are told. Raises ``InputError`` for what
    they cannot do.
    """
    settings = settings_of(checkpoint, server)
    if settings.vae_precision == "bf16" and settings.vae_engine != "torch":
        raise InputError(
            "vae_precision",
            "bf16 needs the engine torch here: ONNX Runtime has none of it on a CPU",
        )
    # The first one is no graph where ranks share it.
    if "bf16" in settings.text_encoder_precisions[1 if settings.tp_size > 1 else 0 :]:
        raise InputError(
            "text_encoder_precisions", "should be fp32 or fp16: ONNX Runtime has no bf16 on a CPU"
        )
    return settings


def settings_of(checkpoint: Checkpoint, params: StageParams) -> StageSettings:
    """What stages for ``checkpoint`` are told. Raises ``InputError`` where its VAE or ranks do
    not fit.
    """
    layout = resolve_layout(
        params.num_gpus,
        params.sp_size,
        params.ulysses_degree,
        params.ring_degree,
        params.cfg_parallel,
    )
    if layout.branches > 1 and checkpoint.family.guidance_embedded:
        raise InputError(
            "cfg_parallel",
            f"has no meaning here: {checkpoint.family.name} has one pass a step; ask for more sp_size",
        )
    if (
        params.text_encoder_cpu_offload
        and isinstance(params, ExportParams)
        and params.flavour == "tensorrt"
    ):
        raise InputError(
            "text_encoder_cpu_offload",
            "engines run on the GPU; with the flavour python text encoders run on the CPU",
        )
    _check_text_ranks(checkpoint, params)
    settings = StageSettings(
        checkpoint=str(checkpoint.path),
        tp_size=params.tp_size,
        precision=AUTO_PRECISION if params.precision == "auto" else params.precision,
        text_encoder_precisions=params.text_encoder_precisions,
        threads=params.threads,
        ulysses_degree=layout.ulysses,
        ring_degree=layout.ring,
        guidance_branches=layout.branches,
        resident="block" if params.dit_layerwise_offload else "all",
        pin_cpu_memory=params.pin_cpu_memory,
        batching_max_size=params.batching_max_size,
        vae_engine=params.vae_engine,
        vae_precision=params.vae_precision,
        vae_tiling=params.vae_tiling or params.vae_sp,
        vae_devices=layout.ranks if params.vae_sp else 1,
        vae_config=params.vae_config or VaeConfig(),
    )
    if settings.vae_tiling:
        # ONNX Runtime comes with it: for those who ask for tiles
        from pipeline.decoders.opening import tiling

        tiling(checkpoint.configs["vae"], settings)  # raises where tiles do not fit
    return settings


def _check_text_ranks(checkpoint: Checkpoint, params: StageParams) -> None:
    if params.tp_size == 1:
        return
    if isinstance(params, ExportParams) and params.flavour != "python":
        raise InputError(
            "tp_size", f"needs the flavour python: in {params.flavour} a graph runs whole"
        )
    if params.text_encoder_cpu_offload:
        raise InputError(
            "tp_size",
            "should be 1 with text_encoder_cpu_offload, which keeps text encoders on the CPU",
        )
    if params.text_encoder_precisions[:1] == ("fp16",):
        raise InputError(
            "text_encoder_precisions",
            "should be fp32 or bf16 with tp_size, where the first is no graph",
        )
    check_text_ranks(checkpoint.configs["text_encoder"], params.tp_size)
