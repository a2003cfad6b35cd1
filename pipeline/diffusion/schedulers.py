"""Build the noise schedule: the checkpoint's own diffusers scheduler, with a request's flow
shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest

# Maps class name -> (class, the config key of its flow shift). Only these classes are built,
# whichever class a checkpoint names.
SCHEDULERS = {
    "UniPCMultistepScheduler": (UniPCMultistepScheduler, "flow_shift"),
    "FlowMatchEulerDiscreteScheduler": (FlowMatchEulerDiscreteScheduler, "shift"),
}


def scheduler_for(checkpoint: Checkpoint, request: VideoRequest, device: str = "cpu") -> Any:
    """Return the schedule of ``request`` for latents on ``device``; each sample needs a new one."""
    if distilled := checkpoint.info.defaults.denoising_timesteps:
        return distilled_scheduler(distilled, device)
    return build_scheduler(
        checkpoint.classes["scheduler"],
        checkpoint.configs["scheduler"],
        request.flow_shift,
        request.num_inference_steps,
        device,
        linear_sigmas=checkpoint.family.guidance_embedded,
    )


def build_scheduler(
    class_name: str,
    config: dict[str, Any],
    flow_shift: float | None,
    steps: int,
    device: str = "cpu",
    *,
    linear_sigmas: bool = False,
) -> Any:
    """Return a scheduler ready for ``steps`` steps of latents on ``device``.

    Each request needs a new one: multistep solvers keep a history. With ``linear_sigmas`` the noise
    levels before the shift are 1, (n - 1) / n, ..., 1 / n, as HunyuanVideo needs them, instead of
    those of the class. Opening the checkpoint has already checked that it is a flow-matching
    schedule with a fixed shift (`pipeline.checkpoint.config_rules.check_schedule`).
    """
    cls, shift_key = SCHEDULERS[class_name]
    overrides: dict[str, Any] = {} if flow_shift is None else {shift_key: flow_shift}
    scheduler: Any = cls.from_config(config, **overrides)
    if linear_sigmas:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1], device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    return scheduler


def noised(scheduler: Any, step: int, clean: Any, noise: Any) -> Any:
    """Return ``clean`` latents with the noise that the schedule has before ``step``.

    SDEdit (arXiv:2108.01073) begins there; diffusers' ``WanVideoToVideoPipeline`` does the same.
    """
    scheduler.set_begin_index(step)
    timestep = scheduler.timesteps[step : step + 1]
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, timestep)
    return scheduler.scale_noise(clean, timestep, noise)


def steps_of_experts(checkpoint: Checkpoint, scheduler: Any) -> list[int]:
    """Return the number of steps of each expert in a schedule; one number for one transformer."""
    total, boundary = len(scheduler.timesteps), checkpoint.boundary_timestep
    if not boundary:
        return [total]
    first = int((scheduler.timesteps >= boundary).sum())
    return [first, total - first]


def distilled_scheduler(timesteps: tuple[int, ...], device: str = "cpu") -> Any:
    """Return the schedule of a model that was distilled to few steps by distribution matching
    (DMD2, arXiv:2405.14867).

    Each of the ``timesteps``, out of 1000, ends in clean latents, to which new noise is added for
    the next one. ``step`` takes the generator of that noise.
    """
    scheduler: Any = FlowMatchLCMScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(sigmas=[timestep / 1000 for timestep in timesteps], device=device)
    return scheduler
