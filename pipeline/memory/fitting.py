"""Make a pipeline fit the available memory, or suggest flags that would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

from pipeline.byte_sizes import human_size
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import VideoRequest
from pipeline.memory.capacity import Capacity
from pipeline.memory.plan import MemoryPlan, plan_of
from pipeline.settings import StageSettings

Planner = Callable[[StageSettings], MemoryPlan]


def fitted(
    checkpoint: Checkpoint,
    settings: StageSettings,
    request: VideoRequest,
    capacity: Capacity,
    *,
    lighter: Iterable[StageSettings] = (),
    overlapping: bool = True,
) -> tuple[StageSettings, MemoryPlan]:
    """Return settings that fit this machine, and their memory plan (`plan_of` has the parameters).

    These are ``settings``, or the first of ``lighter`` that fits. If two experts do not fit a GPU
    together, the settings offload the one that is not in use. Raises ``InputError`` when a video
    like ``request`` does not fit; it names the flags that would help the last of ``lighter``, which
    are the fewest, and its details are the plan.
    """
    *choices, last = (settings, *lighter)
    for choice in choices:
        with suppress(InputError):
            return _fitted(checkpoint, choice, request, capacity, overlapping=overlapping)
    return _fitted(checkpoint, last, request, capacity, overlapping=overlapping)


def _fitted(
    checkpoint: Checkpoint,
    settings: StageSettings,
    request: VideoRequest,
    capacity: Capacity,
    *,
    overlapping: bool,
) -> tuple[StageSettings, MemoryPlan]:
    for field, ranks in (
        ("num_gpus", settings.layout.ranks),
        ("tp_size", settings.tp_size if settings.tp_size > 1 else 0),
    ):
        if capacity.gpus and ranks > len(capacity.gpus):
            raise InputError(
                field, f"{ranks} ranks need a GPU each, and there are {len(capacity.gpus)} here"
            )

    def plan_for(settings: StageSettings) -> MemoryPlan:
        return plan_of(checkpoint, settings, request, capacity, overlapping=overlapping)

    plan = plan_for(settings)
    if (
        plan.short()
        and settings.offload == "none"
        and capacity.gpus
        and len(checkpoint.family.transformers) > 1
    ):
        swapping = settings.model_copy(update={"offload": "expert"})
        other = plan_for(swapping)
        if other.short() is None:
            return swapping, other
    if short := plan.short():
        helpful = [flags for flags, _ in remedies(settings, capacity, plan_for)]
        refusal = _refusal(plan, short, helpful)
        raise InputError("model_path", refusal, details="\n".join(plan.table()))
    return settings, plan


def _refusal(plan: MemoryPlan, short: str, helpful: Sequence[str]) -> str:
    parts: dict[str, int] = {}
    for need in plan.needs:
        if need.place == short:
            parts[need.part] = parts.get(need.part, 0) + need.size
    largest = sorted(parts, key=lambda part: -parts[part])[:3]
    most = ", ".join(f"{part} {human_size(parts[part])}" for part in largest)
    free = human_size(plan.free(short) or 0)
    what = (
        f"with {' or with '.join(helpful)} it would fit"
        if helpful
        else "no flag makes it fit: ask for less, or take a smaller model or another machine"
    )
    needed = human_size(plan.total(short))
    return f"needs {needed} on {short} ({most}), where {free} are free; {what}"


def remedies(
    settings: StageSettings, capacity: Capacity, plan_for: Planner
) -> list[tuple[str, StageSettings]]:
    """Return the smallest combinations of flags that make the video of ``plan_for`` fit, each with
    the settings that they make.
    """
    changes = list(_changes(settings, capacity))
    for count in range(1, len(changes) + 1):
        found: list[tuple[str, StageSettings]] = []
        for chosen in combinations(changes, count):
            update = {key: value for _, values in chosen for key, value in values.items()}
            changed = settings.model_copy(update=update)
            if plan_for(changed).short() is None:
                found.append((" ".join(flag for flag, _ in chosen), changed))
        if found:
            return found
    return []


def _changes(settings: StageSettings, capacity: Capacity) -> Iterator[tuple[str, dict[str, Any]]]:
    if settings.precision != "bf16":
        yield "--precision bf16", {"precision": "bf16"}
    if settings.batching_max_size > 1:
        yield "--batching-max-size 1", {"batching_max_size": 1}
    if settings.offload != "layer" and capacity.gpus:
        yield "--dit-layerwise-offload", {"offload": "layer"}
    if settings.layout.ranks == 1 < len(capacity.gpus):
        ranks = len(capacity.gpus)
        yield f"--num-gpus {ranks}", {"ulysses_degree": ranks}
    if settings.encoder_engine == "torch" and capacity.gpus and not settings.text_encoder_offload:
        yield "--text-encoder-cpu-offload", {"text_encoder_offload": True}
    if settings.encoder_engine == "torch" and settings.tp_size == 1:
        yield "--encoder-engine graph", {"encoder_engine": "graph", "text_encoder_precisions": ()}
    if settings.vae_engine == "torch" and settings.vae_precision == "fp32" and capacity.gpus:
        yield "--vae-precision bf16", {"vae_precision": "bf16"}
    if settings.vae_engine != "chunked":
        yield "--vae-engine chunked", {"vae_engine": "chunked", "vae_precision": "fp32"}
    if not settings.vae_tiling:
        yield "--vae-tiling", {"vae_tiling": True}
