"""What runs each part of a pipeline: an engine, in a data type, on the host or on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import TEXT_ENCODER, VAE_DECODER, Part
from pipeline.memory.capacity import Capacity
from pipeline.settings import GraphPrecision, StageSettings

HOST = "the host"
DIT = "dit"
Engine = Literal["onnxruntime", "tensorrt", "torch"]


@dataclass(frozen=True)
class Placement:
    """A part, and what runs it. ``part`` is None for the transformers.

    ``places`` has an element for each rank or copy: `HOST` or "GPU 0". ``shared``: each place has a
    share of the weights, not all of them. ``offloaded``: weights wait on the host and come to a GPU
    for each run.
    """

    name: str
    part: Part | None
    engine: Engine
    precision: GraphPrecision
    places: tuple[str, ...]
    shared: bool = False
    offloaded: bool = False

    def copy(self, index: int) -> str:
        """Return the name of the rank or copy on the place with this index."""
        several = len(self.places) > 1 or self.name == DIT
        return f"{self.name} rank {index}" if several else self.name


def placements(
    checkpoint: Checkpoint, settings: StageSettings, capacity: Capacity
) -> Iterator[Placement]:
    """Yield every part of the pipeline, in the order of a request.

    ONNX Runtime uses the CPU only; TensorRT uses GPUs; torch uses GPUs where there are any.
    """

    def places(engine: Engine, count: int) -> tuple[str, ...]:
        on_gpu = engine != "onnxruntime" and capacity.gpus
        return tuple(f"GPU {index}" if on_gpu else HOST for index in range(count))

    def placed(part: Part) -> Placement:
        engine = engine_of(part, settings)
        ranks = settings.tp_size if part == TEXT_ENCODER else 1
        count = settings.vae_devices if part == VAE_DECODER else ranks
        offloaded = settings.text_encoder_offload and engine == "torch" and part.kind != "vae"
        return Placement(
            part.name,
            part,
            engine,
            settings.precision_of(part),
            places(engine, count),
            shared=ranks > 1,
            offloaded=offloaded,
        )

    yield from (placed(part) for part in checkpoint.family.parts if part != VAE_DECODER)
    ranks = places("torch", settings.layout.ranks)
    yield Placement(DIT, None, "torch", settings.precision, ranks)
    if VAE_DECODER in checkpoint.family.parts:
        yield placed(VAE_DECODER)


def engine_of(part: Part, settings: StageSettings) -> Engine:
    """Return what runs an exported part."""
    if settings.in_torch(part):
        return "torch"
    return "tensorrt" if settings.flavour == "tensorrt" else "onnxruntime"
