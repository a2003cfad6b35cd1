"""The memory plan: how much memory each part of a pipeline needs, and where.

It is made before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest
from pipeline.families.parts import TEXT_ENCODER, VAE_DECODER, VAE_ENCODER
from pipeline.memory.capacity import Capacity
from pipeline.memory.weights import Weights, weights_of
from pipeline.memory.working import decoding, denoising
from pipeline.settings import StageSettings

HOST = "the host"
BYTES_PER_ELEMENT = {"fp32": 4, "bf16": 2, "fp16": 2}
# Prefixes of the weight names in the VAE's file.
VAE_ENCODER_PREFIXES = ("encoder.", "quant_conv.")
VAE_DECODER_PREFIXES = ("decoder.", "post_quant_conv.")
# Bytes of a Python process with torch loaded, and of a CUDA context with its libraries.
RANK_ON_HOST, RANK_ON_GPU = 300 << 20, 500 << 20


@dataclass(frozen=True)
class Need:
    """A lower bound: ``part`` needs ``size`` bytes for ``what`` on ``place`` (`HOST`, "GPU 0")."""

    place: str
    part: str
    what: str
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """The minimum needs and the free memory. A place with unknown free memory fits everything."""

    needs: tuple[Need, ...]
    capacity: Capacity

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need.place for need in self.needs))

    def total(self, place: str) -> int:
        return sum(need.size for need in self.needs if need.place == place)

    def free(self, place: str) -> int | None:
        if place == HOST:
            return self.capacity.host
        return self.capacity.gpus[int(place.removeprefix("GPU "))]

    def short(self) -> str | None:
        """Return the first place where the needs exceed the free memory; None if all fit."""
        return next(
            (p for p in self.places if (free := self.free(p)) is not None and self.total(p) > free),
            None,
        )

    def sentence(self) -> str:
        """Return a summary of all places: ``at least 1.4 GB of 22.1 GB free on the host, ...``."""
        return f"at least {', '.join(self._room(place) for place in self.places)}"

    def table(self) -> list[str]:
        """Return the lines of a table: one for each need, then a total for each place."""
        rows = [(need.place, need.part, need.what, human_size(need.size)) for need in self.needs]
        rows += [(place, "in all", self._room(place), "") for place in self.places]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = (
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, (*widths, 0), strict=True))
            for row in rows
        )
        return [line.rstrip() for line in lines]

    def _room(self, place: str) -> str:
        free = self.free(place)
        room = "" if free is None else f" of {human_size(free)} free"
        return f"{human_size(self.total(place))}{room} on {place}"


def plan_of(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, capacity: Capacity
) -> MemoryPlan:
    """Return the minimum memory for a video like ``request``.

    ``settings`` and ``capacity`` decide where each part runs. Raises ``CheckpointError`` for files
    that are missing or cut short.
    """
    needs = [
        *_encoders(checkpoint, settings, capacity),
        *_ranks(checkpoint, settings, request, capacity),
    ]
    return MemoryPlan((*needs, *_decoder(checkpoint, settings, request, capacity)), capacity)


def _encoders(
    checkpoint: Checkpoint, settings: StageSettings, capacity: Capacity
) -> Iterator[Need]:
    """Yield the needs of all encoders. ONNX Runtime runs them on the CPU, even with a GPU."""
    for part in checkpoint.family.parts:
        if part == VAE_DECODER:
            continue
        weights = weights_of(
            checkpoint, part.component, VAE_ENCODER_PREFIXES if part == VAE_ENCODER else ("",)
        )
        precision = settings.precision_of(part)
        size = weights.count * BYTES_PER_ELEMENT[precision]
        if part == TEXT_ENCODER and settings.tp_size > 1:
            yield from _text_ranks(size, settings.tp_size, capacity)
        else:
            yield Need(HOST, part.name, "weights", size)


def _text_ranks(size: int, ranks: int, capacity: Capacity) -> Iterator[Need]:
    """Yield the needs of the text encoder's ranks, of ``size`` bytes of weights in all.

    Each rank holds a complete token embedding, but the estimate counts it as sharded too.
    """
    for rank in range(ranks):
        part, place = f"{TEXT_ENCODER.name} rank {rank}", f"GPU {rank}" if capacity.gpus else HOST
        yield Need(HOST, part, "process", RANK_ON_HOST)
        if capacity.gpus:
            yield Need(place, part, "process", RANK_ON_GPU)
        yield Need(place, part, "weights", size // ranks)


def _ranks(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, capacity: Capacity
) -> Iterator[Need]:
    models = [weights_of(checkpoint, name) for name in checkpoint.family.transformers]
    shards = settings.layout.sequence_ranks
    itemsize = BYTES_PER_ELEMENT[settings.precision]
    working = settings.batching_max_size * denoising(checkpoint, request, shards, itemsize)
    all_weights = sum(model.count for model in models) * itemsize
    for rank in range(settings.layout.ranks):
        part = f"dit rank {rank}"
        yield Need(HOST, part, "process", RANK_ON_HOST)
        place = f"GPU {rank}" if capacity.gpus else HOST
        if capacity.gpus:
            yield Need(place, part, "process", RANK_ON_GPU)
            if settings.offload != "none":
                yield Need(HOST, part, "weights", all_weights)
        held = _held(models, settings) * itemsize if capacity.gpus else all_weights
        yield Need(place, part, "weights", held)
        yield Need(place, part, "activations", working)


def _held(models: Sequence[Weights], settings: StageSettings) -> int:
    """Return the number of parameters that are on a GPU at the same time."""
    if settings.offload == "layer":
        return max(model.by_block for model in models)
    if settings.offload == "expert":
        return max(model.count for model in models)
    return sum(model.count for model in models)


def _decoder(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, capacity: Capacity
) -> Iterator[Need]:
    """Yield the needs of the VAE decoder on each device, which has its own copy.

    ONNX Runtime runs it on the CPU; the engine ``torch`` runs it on GPUs, if there are any.
    """
    on_gpu = settings.vae_engine == "torch" and capacity.gpus
    weights = (
        weights_of(checkpoint, VAE_DECODER.component, VAE_DECODER_PREFIXES).count
        * BYTES_PER_ELEMENT[settings.vae_precision]
    )
    for device in range(settings.vae_devices):
        place = f"GPU {device}" if on_gpu else HOST
        yield Need(place, VAE_DECODER.name, "weights", weights)
        yield Need(place, VAE_DECODER.name, "frames", decoding(checkpoint, request, settings))
