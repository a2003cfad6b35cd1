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
Engine = Literal["onnxruntime", "torch"]


@dataclass(frozen=True)
class Placement:
    """A part, and what runs it. ``part`` is None for the transformers.

    ``places`` has an element for each rank or copy: `HOST` or "GPU 0". ``shared``: each place has a
    share of the weights, not all of them.
    """

    name: str
    part: Part | None
    engine: Engine
    precision: GraphPrecision
    places: tuple[str, ...]
    shared: bool = False

    def copy(self, index: int) -> str:
        """Return the name of the rank or copy on the place with this index."""
        several = len(self.places) > 1 or self.name == DIT
        return f"{self.name} rank {index}" if several else self.name


def placements(
    checkpoint: Checkpoint, settings: StageSettings, capacity: Capacity
) -> Iterator[Placement]:
    """Yield every part of the pipeline, in the order of a request.

    ONNX Runtime uses the CPU only; torch uses GPUs where there are any.
    """
    decoder = None
    for part in checkpoint.family.parts:
        precision = settings.precision_of(part)
        if part == VAE_DECODER:
            torch = settings.vae_engine == "torch"
            places = _places(settings.vae_devices, capacity) if torch else (HOST,)
            decoder = Placement(
                part.name, part, "torch" if torch else "onnxruntime", settings.vae_precision,
                places if torch else (HOST,) * settings.vae_devices,
            )  # fmt: skip
        elif part == TEXT_ENCODER and settings.tp_size > 1:
            yield Placement(
                part.name,
                part,
                "torch",
                precision,
                _places(settings.tp_size, capacity),
                shared=True,
            )
        else:
            yield Placement(part.name, part, "onnxruntime", precision, (HOST,))
    ranks = _places(settings.layout.ranks, capacity)
    yield Placement(DIT, None, "torch", settings.precision, ranks)
    if decoder:
        yield decoder


def _places(count: int, capacity: Capacity) -> tuple[str, ...]:
    return tuple(f"GPU {index}" if capacity.gpus else HOST for index in range(count))
