"""Settings for a Triton that is started by this command, fitted to the memory of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware, lighter
from cli.run.stage_settings import stage_settings
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import InputError
from pipeline.families import Bounds, Family, ModelInfo, SamplingParams, VideoRequest
from pipeline.families.bounds import CPU, GPU
from pipeline.memory.capacity import Capacity
from pipeline.memory.fitting import fitted
from pipeline.parallel.backends import Target, choose_kernel, head_of
from pipeline.settings import StageSettings
from pipeline.system.compilers import require_compiler


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
    has_graphs: Callable[[StageSettings], bool] | None = None,
) -> StageSettings:
    """Return the settings of the stages, and ``note`` the memory plan, in detail if ``verbose``.

    ``request`` is the only video that memory is planned for; None: a server, which makes the
    model's default video while it decodes another.
    ``in_container``: whether the stages run in a container. ``bounds`` are the limits of a server's
    requests, each with the device's default if it is not set; None: no limits. ``has_graphs`` tells
    whether the graphs that settings need are exported; where not, torch takes their place.

    Raises ``InputError`` for settings that the stages do not support or that do not fit into
    memory, and ``CheckpointError`` for truncated weights.
    """
    capacity = capacity or Capacity.measure(in_container=in_container)
    video = request or _default_video(checkpoint.info)
    settings = _resolved(checkpoint, stages, capacity, has_graphs)
    settings.check_compile()
    if settings.enable_torch_compile and not in_container:
        require_compiler(gpu=bool(capacity.gpus))
    settings.check_size(video.width, video.height)
    settings, plan = fitted(
        checkpoint,
        settings,
        video,
        capacity,
        lighter=lighter(stages, settings) if capacity.gpus else (),
        overlapping=request is None,
    )
    note(f"memory: {plan.sentence()}")
    for line in (*plan.devices(), *plan.table()) if verbose else ():
        note(line)
    for text in _notes(stages, settings, checkpoint.family, has_gpu=bool(capacity.gpus)):
        note(text)
    return (
        settings if bounds is None else _bounded(settings, bounds, checkpoint.info, capacity, note)
    )


def _resolved(
    checkpoint: Checkpoint,
    stages: StageGroup,
    capacity: Capacity,
    has_graphs: Callable[[StageSettings], bool] | None,
) -> StageSettings:
    hardware = Hardware.measure(gpu=bool(capacity.gpus))
    settings = stage_settings(checkpoint, stages, hardware)
    if has_graphs and not has_graphs(settings):
        settings = stage_settings(checkpoint, stages, hardware, has_graphs=False)
    # The ranks check the rest, which depends on their own packages, before they load weights.
    head = head_of(checkpoint.configs["transformer"])
    target = Target(gpu=hardware.gpu, half=settings.precision == "bf16", head=head)
    choose_kernel(settings.attention_backend, target)
    return settings


def _on_the_cpu(settings: StageSettings, stages: StageGroup) -> Iterator[str]:
    if stages.encoder_engine == "auto" and settings.encoder_engine != "torch":
        yield "the encoders do not fit the GPU beside the rest: they run on the CPU"
    if stages.vae_engine == "auto" and settings.vae_engine != "torch":
        yield "the VAE does not fit the GPU beside the rest: it runs on the CPU"


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


def _notes(
    stages: StageGroup, settings: StageSettings, family: Family, *, has_gpu: bool
) -> Iterator[str]:
    """Yield what was decided without an option that says so, and options without an effect."""
    yield from _without_effect(stages, settings, family, has_gpu=has_gpu)
    if settings.vae_tiling and stages.vae_tiling is None and not stages.vae_sp:
        yield (
            "the VAE decodes in tiles; --no-vae-tiling decodes whole frames, which can take tens "
            "of gigabytes"
        )
    if has_gpu and settings.flavour == "python":
        yield from _on_the_cpu(settings, stages)
    if settings.offload == "expert":
        yield "the two experts do not fit the GPU together: they are swapped (expert offload)"


def _without_effect(
    stages: StageGroup, settings: StageSettings, family: Family, *, has_gpu: bool
) -> Iterator[str]:
    if (extra := len(stages.text_encoder_precisions) - len(family.text_encoders)) > 0:
        yield f"ignoring {extra} extra value{'s' * (extra > 1)} of text_encoder_precisions"
    if stages.text_encoder_cpu_offload and not (has_gpu and settings.text_encoder_offload):
        yield "text_encoder_cpu_offload has no effect: the text encoders run on the CPU"
    if stages.dit_layerwise_offload and not has_gpu:
        yield "dit_layerwise_offload has no effect: there is no GPU"
    if settings.flavour != "tensorrt":
        for name in ("engine_max_pixels", "weight_streaming_bytes"):
            if getattr(stages, name) != StageGroup.model_fields[name].default:
                yield f"{name} has no effect: it is for the flavour tensorrt"
    offloads = settings.offload != "none" or settings.text_encoder_offload
    if stages.pin_cpu_memory and not (has_gpu and offloads):
        why = "all weights stay on the GPU" if has_gpu else "there is no GPU"
        yield f"pin_cpu_memory has no effect: {why}"
