"""Does it fit? Settings for a Triton that is started here, held against the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cli.params.groups import ModelParams, StageParams
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import Bounds, Family, ModelInfo, SamplingParams, VideoRequest
from pipeline.families.bounds import CPU, GPU
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted
from pipeline.settings import StageSettings


def fitting_settings(
    checkpoint: Checkpoint,
    params: StageParams,
    request: VideoRequest | None,
    note: Callable[[str], None],
    *,
    verbose: bool,
    capacity: Capacity | None = None,
    bounds: Bounds | None = None,
) -> StageSettings:
    """What the stages are told; what they will need is noted, line by line if ``verbose``.

    Without a ``request`` it is that of a video as the model makes it by default. Raises
    ``InputError`` for what the stages cannot do or memory cannot hold, and ``CheckpointError`` for
    weights that are cut short.

    ``bounds`` are the limits of a server's requests, each with the device's default where it is not
    set; None: no limits.
    """
    capacity = capacity or Capacity.measure(in_container=_in_container(params))
    request = request or _usual(checkpoint.info)
    settings, plan = fitted(checkpoint, stage_settings(checkpoint, params), request, capacity)
    note(f"memory: {plan.sentence()}")
    for line in plan.table() if verbose else ():
        note(line)
    for text in _without_effect(params, settings, checkpoint.family, has_gpu=bool(capacity.gpus)):
        note(text)
    if settings.resident == "expert":
        note("the two experts do not fit the GPU together: each is brought there in its turn")
    return (
        settings if bounds is None else _bounded(settings, bounds, checkpoint.info, capacity, note)
    )


def _bounded(
    settings: StageSettings,
    bounds: Bounds,
    info: ModelInfo,
    capacity: Capacity,
    note: Callable[[str], None],
) -> StageSettings:
    bounds = bounds.settled(GPU if capacity.gpus else CPU)
    try:
        bounds.check(_usual(info))
    except InputError as error:
        note(f"a video as {info.name} makes it by default is refused: {error}")
    return settings.model_copy(update={"bounds": bounds})


def _in_container(params: StageParams) -> bool:
    return isinstance(params, ModelParams) and params.runtime in ("docker", "podman")


def _usual(info: ModelInfo) -> VideoRequest:
    size = info.defaults.width, info.defaults.height
    return info.resolve(
        SamplingParams(prompt="-", width=size[0], height=size[1]),
        picture=size if info.takes_picture else None,
    )


def _without_effect(
    params: StageParams, settings: StageSettings, family: Family, *, has_gpu: bool
) -> Iterator[str]:
    if len(params.text_encoder_precisions) > len(family.text_encoders):
        yield f"text_encoder_precisions says more than {family.name} has text encoders; the rest changes nothing"
    if params.text_encoder_cpu_offload:
        yield "text_encoder_cpu_offload changes nothing: text encoders run in CPU memory here in any case"
    if params.dit_layerwise_offload and not has_gpu:
        yield "dit_layerwise_offload changes nothing: there is no GPU to free"
    if params.pin_cpu_memory and (not has_gpu or settings.resident == "all"):
        why = "all of the transformer stays on the GPU" if has_gpu else "there is no GPU to copy to"
        yield f"pin_cpu_memory changes nothing: {why}"
