"""``--dry-run`` of `generate` and `serve`: what would run where, and how much memory it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cli.params.groups import DryRunGroup, StartGroup
from cli.params.stage_group import StageGroup
from cli.run.backend import Backend
from cli.run.checkpoints import bundled_checkpoint, resolve
from cli.run.memory import fitting_settings
from cli.run.served import as_served
from pipeline.checkpoint.hub import locate, missing
from pipeline.errors import InputError
from pipeline.families import Bounds, SamplingParams
from pipeline.memory.capacity import Capacity

if TYPE_CHECKING:
    from pipeline.checkpoint.folder import Checkpoint
    from pipeline.families import VideoRequest
    from pipeline.settings import StageSettings

GB = 10**9
# A GPU that is sold as 80 GB has about 80 GiB, of which the driver keeps some.
GPU_GB = round(0.98 * 2**30)
SILENT = {"version", "checkpoint", "bounds", "step_cache_table"}


def asked(params: DryRunGroup, *, runs_triton: bool) -> bool:
    """Return whether to plan only.

    Raises ``InputError`` for a machine that is assumed without a plan, and for a plan of a Triton
    that runs already.
    """
    for field in ("assume_gpus", "assume_memory"):
        if getattr(params, field) is not None and not params.dry_run:
            raise InputError(field, "requires --dry-run: a command runs on this machine")
    if params.dry_run and not runs_triton:
        raise InputError("dry_run", "not allowed with --triton-url: that Triton runs already")
    return params.dry_run


def print_plan(
    params: DryRunGroup,
    backend: Backend,
    start: StartGroup,
    stages: StageGroup,
    *,
    sampling: SamplingParams | None = None,
    files: Mapping[str, Any] | None = None,
    bounds: Bounds | None = None,
) -> None:
    """Print the settings and the memory plan; for a container its commands too, with the plan as
    comments of that script.

    ``sampling`` describes the video of `generate`, with ``files``, the other arguments of
    `ModelInfo.resolve`; `serve` has ``bounds``. Raises ``InputError`` if the video does not fit,
    after the plan, or the model is not on this machine.
    """
    model = start.model_path or bundled_checkpoint()
    if (download := missing(model)) and download.total:
        raise InputError("dry_run", f"{model} is not on this machine; run once without --dry-run")
    checkpoint = as_served(locate(model).open(), stages)
    request = resolve(checkpoint.info, sampling, **(files or {})) if sampling else None
    capacity = assumed(params) or Capacity.measure(in_container=backend.in_container)
    prefix = "# " if backend.in_container else ""
    lines: list[str] = []
    try:
        settings = fitting_settings(
            checkpoint, stages, request, lines.append, verbose=True, capacity=capacity,
            bounds=bounds,
        )  # fmt: skip
        lines = [*_described(checkpoint, request, settings), *lines]
    except InputError as error:
        print("\n".join(prefix + line for line in (error.details or "").splitlines()))
        raise
    print("\n".join(prefix + line for line in lines))
    if backend.in_container:
        print(backend.script(start, stages))


def _described(
    checkpoint: Checkpoint, request: VideoRequest | None, settings: StageSettings
) -> Iterator[str]:
    yield f"model: {checkpoint.info.name} ({checkpoint.family.name})"
    if request:
        size = f"{request.width}x{request.height}"
        yield f"video: {size}, {request.num_frames} frames, {request.num_inference_steps} steps"
        yield from _reused_steps(checkpoint, request, settings)
    for name, value in settings.model_dump(mode="json", exclude=SILENT, exclude_none=True).items():
        yield f"{name}: {json.dumps(value)}"


def _reused_steps(
    checkpoint: Checkpoint, request: VideoRequest, settings: StageSettings
) -> Iterator[str]:
    cache = settings.step_cache_of(checkpoint.step_cache)
    total = request.num_inference_steps
    phases = [total]
    if cache.default.on and checkpoint.boundary_timestep:
        from pipeline.diffusion.schedulers import scheduler_for, steps_of_experts  # imports torch

        phases = steps_of_experts(checkpoint, scheduler_for(checkpoint, request))
    if reused := cache.reused_steps(request.step_cache, phases):
        listed = ", ".join(str(step + 1) for step in sorted(reused))
        yield f"step cache: computes {total - len(reused)} of {total} steps; reuses in {listed}"


def assumed(params: DryRunGroup) -> Capacity | None:
    """Return the free memory of the machine that the flags describe; None without one."""
    if params.assume_gpus is None and params.assume_memory is None:
        return None
    host = params.assume_memory
    return Capacity(
        None if host is None else int(host.removesuffix("GB")) * GB,
        tuple(gpus_of(params.assume_gpus or "0")),
    )


def gpus_of(text: str) -> Iterator[int]:
    """Yield the free bytes of each GPU of a list such as ``4x80GB`` or ``24GB,12GB``."""
    for item in text.split(","):
        found = re.fullmatch(r"(?:(\d+)x)?(\d+)GB", item)
        for _ in range(int(found[1] or 1) if found else 0):
            yield int(found[2]) * GPU_GB if found else 0
