"""Decide what ``auto`` means: the engine and the data type of every part, from the hardware."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.params.stage_group import StageGroup
from pipeline.families import Family
from pipeline.settings import (
    EncoderEngine,
    Flavour,
    GraphPrecision,
    Precision,
    StageSettings,
    VaeEngine,
)

CPUINFO = Path("/proc/cpuinfo")
AUTO_FLAVOUR: Flavour = "python"
"""TensorRT and Triton's onnxruntime backend have not been measured beside it on a GPU."""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Flags of CPUs that multiply bfloat16; others convert it to float32, which is slower."""


@dataclass(frozen=True)
class Hardware:
    """What the stages run on: whether there is a GPU, and whether the CPU multiplies bfloat16."""

    gpu: bool
    cpu_bf16: bool = False

    @classmethod
    def measure(cls, *, gpu: bool, cpuinfo: Path = CPUINFO) -> Hardware:
        """Read the CPU's flags; without the file, the CPU has none."""
        try:
            lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        flags = next((line for line in lines if line.startswith("flags")), "")
        return cls(gpu, bool(BF16_FLAGS & set(flags.split())))


@dataclass(frozen=True)
class Engines:
    """The engine and the data type of the transformer, the encoders and the VAE."""

    precision: Precision
    encoder_engine: EncoderEngine
    text_encoder_precisions: tuple[GraphPrecision, ...]
    vae_engine: VaeEngine
    vae_precision: GraphPrecision


def flavour_of(stages: StageGroup) -> Flavour:
    """Return the flavour, with ``auto`` decided."""
    return AUTO_FLAVOUR if stages.flavour == "auto" else stages.flavour


def engines_of(
    stages: StageGroup,
    family: Family,
    hardware: Hardware,
    *,
    exporting: bool = False,
    has_graphs: bool = True,
) -> Engines:
    """Return what runs each part. An option that is set always wins.

    On a GPU everything runs in torch. On a CPU encoders and VAE run as exported graphs in float32,
    because ONNX Runtime is faster there, unless the cache does not have them (``has_graphs``) or
    an option asks for what they do not have. ``exporting``: the repository gets graphs, whatever
    the hardware here. Flavours other than python always run graphs, or engines built from them.
    """
    flavour = flavour_of(stages)
    exporting = exporting or flavour != "python"
    torch = not exporting and (hardware.gpu or not has_graphs)
    texts, vae = stages.text_encoder_precisions, stages.vae_precision
    only_torch = stages.tp_size > 1 or (not exporting and "bf16" in texts)
    # torch on a CPU is far slower in float16 than in float32.
    if stages.encoder_engine != "auto":
        encoder_engine: EncoderEngine = stages.encoder_engine
    else:
        able = hardware.gpu or "fp16" not in texts
        encoder_engine = "torch" if only_torch or (torch and able) else "graph"
    if stages.vae_engine != "auto":
        vae_engine: VaeEngine = stages.vae_engine
    else:
        able = hardware.gpu or vae != "fp16"
        only_torch = not exporting and vae == "bf16"
        vae_engine = "torch" if only_torch or (torch and able) else "chunked"
    # An engine in float32 would take twice the GPU memory: 23 GB for UMT5.
    half = flavour == "tensorrt" or (hardware.gpu and encoder_engine == "torch")
    default = family.vae_on_gpu if hardware.gpu and vae_engine == "torch" else "fp32"
    return Engines(
        _precision(stages, hardware),
        encoder_engine,
        texts + ("bf16",) * (len(family.text_encoders) - len(texts) if half else 0),
        vae_engine,
        default if vae == "auto" else vae,
    )


def lighter(stages: StageGroup, settings: StageSettings) -> Iterator[StageSettings]:
    """Yield settings that need less memory on a GPU: with the encoders on the CPU, then with a VAE
    that decodes in tiles, then with the VAE on the CPU too. Each is left out where an option says
    what to do, and other flavours than python have none.
    """
    if settings.flavour != "python":
        return
    changes: dict[str, object] = {}
    texts = stages.text_encoder_precisions
    if stages.encoder_engine == "auto" and stages.tp_size == 1 and "bf16" not in texts:
        changes |= {
            "encoder_engine": "graph",
            "text_encoder_precisions": texts,
            "text_encoder_offload": False,
        }
        yield settings.model_copy(update=changes)
    if stages.vae_tiling is None and stages.vae_config is None and not settings.vae_tiling:
        yield settings.model_copy(update={**changes, "vae_tiling": True})
    if stages.vae_engine == "auto" and stages.vae_precision in ("auto", "fp32"):
        changes |= {"vae_engine": "chunked", "vae_precision": "fp32"}
        yield settings.model_copy(update=changes)


def _precision(stages: StageGroup, hardware: Hardware) -> Precision:
    if stages.precision != "auto":
        return stages.precision
    return "bf16" if hardware.gpu or hardware.cpu_bf16 else "fp32"
