"""The noise schedule: the checkpoint's own diffusers scheduler, with a request's flow shift."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

# Class name -> (class, the config key that holds its flow shift). Only these are built, whatever a
# folder names.
SCHEDULERS = {
    "UniPCMultistepScheduler": (UniPCMultistepScheduler, "flow_shift"),
    "FlowMatchEulerDiscreteScheduler": (FlowMatchEulerDiscreteScheduler, "shift"),
}


def build_scheduler(
    class_name: str,
    config: dict[str, Any],
    flow_shift: float | None,
    steps: int,
    device: str = "cpu",
    *,
    linear_sigmas: bool = False,
) -> Any:
    """A scheduler ready for ``steps`` steps of latents on ``device``.

    A new one per request: multistep solvers keep a history. With ``linear_sigmas`` the noise levels
    before the shift are 1, (n - 1) / n, ..., 1 / n, as HunyuanVideo takes them, and not those of
    the class. That it is a flow-matching schedule of fixed shift was checked when the checkpoint
    was opened (`pipeline.checkpoint.config_rules.check_schedule`).
    """
    cls, shift_key = SCHEDULERS[class_name]
    overrides: dict[str, Any] = {} if flow_shift is None else {shift_key: flow_shift}
    scheduler: Any = cls.from_config(config, **overrides)
    if linear_sigmas:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1], device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
    return scheduler


def distilled_scheduler(timesteps: tuple[int, ...], device: str = "cpu") -> Any:
    """The schedule of a model that was distilled to few steps by distribution matching (DMD2,
    arXiv:2405.14867).

    Each of the ``timesteps``, of 1000, ends in clean latents, which get new noise for the next one.
    ``step`` takes the generator of that noise.
    """
    scheduler: Any = FlowMatchLCMScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(sigmas=[timestep / 1000 for timestep in timesteps], device=device)
    return scheduler
