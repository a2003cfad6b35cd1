"""The memory plan: how much memory each part of a pipeline needs, and where.

It is made before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest
from pipeline.families.parts import VAE_DECODER, VAE_ENCODER
from pipeline.memory import encoders, processes, vae
from pipeline.memory.capacity import Capacity
from pipeline.memory.placement import DIT, HOST, Placement, placements
from pipeline.memory.transformer import denoising, step_cache
from pipeline.memory.weights import Weights, weights_of
from pipeline.settings import StageSettings

BYTES_PER_ELEMENT = {"fp32": 4, "bf16": 2, "fp16": 2}
# Prefixes of the weight names in the VAE's file.
VAE_PREFIXES = {
    VAE_ENCODER.name: ("encoder.", "quant_conv."),
    VAE_DECODER.name: ("decoder.", "post_quant_conv."),
}
KEPT = "kept"
TORCH_VAE_COPIES = 2
"""Copies of a VAE's weights that torch takes on a CPU (measured): those in the layout of
convolutions, and the originals, whose memory the C library keeps for activations.
"""
GPU_MARGIN = 1.15
"""Working memory on a GPU, over the counted tensors: workspaces of kernels, and fragmentation."""


@dataclass(frozen=True)
class Need:
    """``part`` needs ``size`` bytes for ``what`` on ``place`` (`HOST`, "GPU 0").

    ``working`` memory is needed only while the part works; the rest is held all the time. The host
    gets it back after the work, a GPU only if it is ``freed``: processes keep it for their next
    video.
    """

    place: str
    part: str
    what: str
    size: int
    working: bool = False
    freed: bool = False

    @property
    def stage(self) -> str:
        return self.part.partition(" rank ")[0]


@dataclass(frozen=True)
class MemoryPlan:
    """The needs and the free memory. A place with unknown free memory fits everything.

    ``overlapping``: stages work at the same time, on several videos.
    """

    needs: tuple[Need, ...]
    capacity: Capacity
    overlapping: bool = True
    placements: tuple[Placement, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need.place for need in self.needs))

    def total(self, place: str) -> int:
        """Return the bytes that ``place`` needs at once."""
        kept, freed = 0, dict[str, int]()
        for need in self.needs:
            if need.place == place and need.working and (need.freed or place == HOST):
                freed[need.stage] = freed.get(need.stage, 0) + need.size
            elif need.place == place and need.working and not self.overlapping:
                freed[KEPT] = freed.get(KEPT, 0) + need.size
            elif need.place == place:
                kept += need.size
        sizes = freed.values()
        return kept + (sum(sizes) if self.overlapping else max(sizes, default=0))

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
        """Return a summary of all places: ``needs 1.4 GB of 22.1 GB free on the host, ...``."""
        return f"needs {', '.join(self._room(place) for place in self.places)}"

    def devices(self) -> list[str]:
        """Return the lines of a table of what runs each part, in which precision, on which devices,
        and with how much of their memory.
        """
        rows = [("stage", "engine", "precision", "device", "memory")]
        for placed in self.placements:
            sizes = (
                need.size
                for need in self.needs
                if need.stage == placed.name and need.place in placed.places
            )
            size, devices = sum(sizes), ", ".join(dict.fromkeys(placed.places))
            rows.append((placed.name, placed.engine, placed.precision, devices, human_size(size)))
        return _aligned(rows)

    def table(self) -> list[str]:
        """Return the lines of a table: one for each need, then a total for each place."""
        rows = [(need.place, need.part, need.what, human_size(need.size)) for need in self.needs]
        return _aligned(rows + [(place, "in all", self._room(place), "") for place in self.places])

    def _room(self, place: str) -> str:
        free = self.free(place)
        room = "" if free is None else f" of {human_size(free)} free"
        return f"{human_size(self.total(place))}{room} on {place}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def plan_of(
    checkpoint: Checkpoint,
    settings: StageSettings,
    request: VideoRequest,
    capacity: Capacity,
    *,
    overlapping: bool = True,
) -> MemoryPlan:
    """Return the memory that a video like ``request`` needs.

    ``settings`` and ``capacity`` decide where each part runs. Without ``overlapping`` one video is
    made, and stages work one after the other. Raises ``CheckpointError`` for files that are missing
    or cut short.
    """
    placed = tuple(placements(checkpoint, settings, capacity))
    workers = sum(placement.engine == "torch" for placement in placed)
    size = processes.triton(len(placed) - workers, workers)
    needs = [Need(HOST, "triton", "processes", size)]
    for placement in placed:
        if placement.name == DIT:
            needs += _transformers(checkpoint, settings, request, placement)
            if _reuses_steps(checkpoint, settings, request):
                needs += _residuals(checkpoint, settings, request, placement)
        else:
            needs += _exported(checkpoint, settings, request, placement)
    return MemoryPlan(tuple(needs), capacity, overlapping, placed)


def _working(place: str, part: str, what: str, size: int, *, freed: bool = False) -> Need:
    """Return a need of working memory, with the margin of a GPU."""
    margin = 1 if place == HOST else GPU_MARGIN
    return Need(place, part, what, round(size * margin), working=True, freed=freed)


def _process(placement: Placement, index: int) -> Iterator[Need]:
    """Yield the needs of a process that runs torch or TensorRT: on the host, and its context."""
    ranks, place = len(placement.places), placement.places[index]
    name = placement.copy(index)
    yield Need(HOST, name, "process", processes.torch_on_host(on_gpu=place != HOST))
    if place != HOST:
        yield Need(place, name, "process", processes.on_gpu(ranks))


def _transformers(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, placement: Placement
) -> Iterator[Need]:
    models = [weights_of(checkpoint, name) for name in checkpoint.family.transformers]
    itemsize = BYTES_PER_ELEMENT[placement.precision]
    working = denoising(checkpoint, request, settings.layout, itemsize, settings.batching_max_size)
    loras = _loras(settings) * itemsize
    on_host = HOST in placement.places or settings.offload != "none"
    if on_host:  # one copy for all ranks
        yield Need(HOST, placement.name, "weights", sum(m.count for m in models) * itemsize)
    for rank, place in enumerate(placement.places):
        part = placement.copy(rank)
        yield from _process(placement, rank)
        if place != HOST:
            yield Need(place, part, "weights", _held(models, settings) * itemsize)
        if loras:
            yield Need(place, part, "LoRAs", loras)
        yield _working(place, part, "activations", working)


def _reuses_steps(checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest) -> bool:
    cache = settings.step_cache_of(checkpoint.step_cache)
    asked = cache.default.on if request.step_cache is None else request.step_cache != "off"
    return asked and cache.table is not None


def _residuals(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, placement: Placement
) -> Iterator[Need]:
    itemsize = BYTES_PER_ELEMENT[placement.precision]
    size = step_cache(checkpoint, request, settings.layout, itemsize, settings.batching_max_size)
    for rank, place in enumerate(placement.places):
        yield _working(place, placement.copy(rank), "step cache", size)


def _loras(settings: StageSettings) -> int:
    """Return the number of elements of the LoRAs that stay loaded beside the weights, at most."""
    if settings.lora_fixed:
        return 0
    return sum(
        sorted((file.elements for file in settings.loras), reverse=True)[: settings.max_loras]
    )


def _held(models: Sequence[Weights], settings: StageSettings) -> int:
    """Return the number of parameters that are on a GPU at the same time."""
    if settings.offload == "layer":
        return max(model.by_block for model in models)
    if settings.offload == "expert":
        return max(model.count for model in models)
    return sum(model.count for model in models)


def _exported(
    checkpoint: Checkpoint, settings: StageSettings, request: VideoRequest, placement: Placement
) -> Iterator[Need]:
    """Yield the needs of an encoder or the VAE decoder, which may be on several places."""
    part = placement.part
    assert part is not None
    count = weights_of(checkpoint, part.component, VAE_PREFIXES.get(part.name, ("",))).count
    # ONNX Runtime computes in float32 on a CPU, whatever the precision of the weights.
    on_onnx = placement.engine == "onnxruntime"
    itemsize = 4 if on_onnx else BYTES_PER_ELEMENT[placement.precision]
    if part == VAE_DECODER:
        working = vae.decoding(
            checkpoint,
            settings,
            request,
            placement.engine,
            itemsize,
            on_cpu=HOST in placement.places,
        )
    elif part == VAE_ENCODER:
        working = vae.encoding(checkpoint, request, placement.engine, itemsize)
    else:
        working = encoders.encoding(checkpoint.configs[part.component], itemsize)
    what = "frames" if part.kind == "vae" else "activations"
    for index, place in enumerate(placement.places):
        name = placement.copy(index)
        if not on_onnx:
            yield from _process(placement, index)
        weights = count * itemsize // (len(placement.places) if placement.shared else 1)
        if place == HOST and placement.engine == "torch" and part.kind == "vae":
            weights *= TORCH_VAE_COPIES
        offloaded = placement.offloaded and place != HOST
        if offloaded:
            yield Need(HOST, name, "weights", weights)
        elif place != HOST and placement.engine == "torch":
            # They are loaded on the host and then moved.
            yield Need(HOST, name, "loading", weights, working=True)
        yield Need(place, name, "weights", weights, working=offloaded, freed=offloaded)
        yield _working(place, name, what, working, freed=offloaded)
