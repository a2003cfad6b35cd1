"""Settings for a Triton that is started by this command, fitted to the memory of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cli.params.stage_group import StageGroup
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
    stages: StageGroup,
    request: VideoRequest | None,
    note: Callable[[str], None],
    *,
    verbose: bool,
    in_container: bool = False,
    capacity: Capacity | None = None,
    bounds: Bounds | None = None,
) -> StageSettings:
    """Return the settings of the stages, and ``note`` the memory plan, in detail if ``verbose``.

    ``request`` is the only video that memory is planned for; None: a server, which makes the
    model's default video while it decodes another.
    ``in_container``: whether the stages run in a container. ``bounds`` are the limits of a server's
    requests, each with the device's default if it is not set; None: no limits.

    Raises ``InputError`` for settings that the stages do not support or that do not fit into
    memory, and ``CheckpointError`` for truncated weights.
    """
    capacity = capacity or Capacity.measure(in_container=in_container)
    settings, video = stage_settings(checkpoint, stages), request or _default_video(checkpoint.info)
    settings.check_size(video.width, video.height)
    settings, plan = fitted(checkpoint, settings, video, capacity, overlapping=request is None)
    note(f"memory: {plan.sentence()}")
    for line in (*plan.devices(), *plan.table()) if verbose else ():
        note(line)
    for text in _without_effect(stages, settings, checkpoint.family, has_gpu=bool(capacity.gpus)):
        note(text)
    if settings.vae_tiling and stages.vae_tiling is None and not stages.vae_sp:
        note(
            "the VAE decodes in tiles; --no-vae-tiling decodes whole frames, which can take tens "
            "of gigabytes"
        )
    if settings.offload == "expert":
        note("the two experts do not fit the GPU together: they are swapped (expert offload)")
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
        bounds.check(_default_video(info))
    except InputError as error:
        note(f"the default video of {info.name} exceeds the limits: {error}")
    return settings.model_copy(update={"bounds": bounds})


def _default_video(info: ModelInfo) -> VideoRequest:
    size = info.defaults.width, info.defaults.height
    return info.resolve(
        SamplingParams(prompt="-", width=size[0], height=size[1]),
        image=size if info.takes_image else None,
    )


def _without_effect(
    stages: StageGroup, settings: StageSettings, family: Family, *, has_gpu: bool
) -> Iterator[str]:
    if (extra := len(stages.text_encoder_precisions) - len(family.text_encoders)) > 0:
        yield f"ignoring {extra} extra value{'s' * (extra > 1)} of text_encoder_precisions"
    if stages.text_encoder_cpu_offload:
        yield "text_encoder_cpu_offload has no effect: text encoders always run in CPU memory here"
    if stages.dit_layerwise_offload and not has_gpu:
        yield "dit_layerwise_offload has no effect: there is no GPU"
    if settings.flavour != "tensorrt":
        for name in ("engine_max_pixels", "weight_streaming_bytes"):
            if getattr(stages, name) != StageGroup.model_fields[name].default:
                yield f"{name} has no effect: it is for the flavour tensorrt"
    if stages.pin_cpu_memory and (not has_gpu or settings.offload == "none"):
        why = "the whole transformer stays on the GPU" if has_gpu else "there is no GPU"
        yield f"pin_cpu_memory has no effect: {why}"
