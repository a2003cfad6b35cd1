"""The noise schedule: the checkpoint's own diffusers scheduler, with a request's flow shift."""

from __future__ import annotations

from typing import Any

from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from pipeline.errors import CheckpointError

# Class name -> (class, the config key that holds its flow shift). Only these are built, whatever a folder names.
SCHEDULERS = {
    "UniPCMultistepScheduler": (UniPCMultistepScheduler, "flow_shift"),
    "FlowMatchEulerDiscreteScheduler": (FlowMatchEulerDiscreteScheduler, "shift"),
}


def build_scheduler(
    class_name: str, config: dict[str, Any], flow_shift: float | None, steps: int, device: str = "cpu"
) -> Any:
    """A scheduler ready for ``steps`` steps of latents on ``device``.

    A new one per request: multistep solvers keep a history. Raises ``CheckpointError`` for a schedule that is not a
    flow-matching one of fixed shift.
    """
    cls, shift_key = SCHEDULERS[class_name]
    if cls is UniPCMultistepScheduler and not config.get("use_flow_sigmas"):
        raise CheckpointError("scheduler_config.json: use_flow_sigmas is off, but Wan predicts flow velocities")
    if config.get("use_dynamic_shifting"):
        raise CheckpointError("scheduler_config.json: use_dynamic_shifting is not part of Wan 2.1")
    overrides: dict[str, Any] = {} if flow_shift is None else {shift_key: flow_shift}
    scheduler: Any = cls.from_config(config, **overrides)
    scheduler.set_timesteps(steps, device=device)
    return scheduler
