"""Schedules match their formulas: the shift, linear noise levels, distilled steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.diffusion.schedulers import build_scheduler, distilled_scheduler

EULER = "FlowMatchEulerDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"
UNIPC_CONFIG = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "final_sigmas_type": "zero",
}


def shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


@pytest.mark.parametrize(("asked", "shift"), [(None, 3.0), (5.0, 5.0), (1.0, 1.0)])
def test_linear_noise_levels_are_shifted(asked: float | None, shift: float) -> None:
    scheduler: Any = build_scheduler(EULER, {"shift": 3.0}, asked, 4, linear_sigmas=True)
    linear = np.array([1, 3 / 4, 2 / 4, 1 / 4])
    expected = shifted(linear, shift)
    np.testing.assert_allclose(scheduler.sigmas, [*expected, 0], rtol=1e-6)
    np.testing.assert_allclose(scheduler.timesteps, 1000 * expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "config"), [(EULER, {"shift": 3.0}), (UNIPC, UNIPC_CONFIG)], ids=["euler", "unipc"]
)
def test_flow_shift_of_a_request_overrides_the_checkpoint(
    name: str, config: dict[str, Any]
) -> None:
    own, same, other = (build_scheduler(name, config, shift, 4) for shift in (None, 3.0, 7.0))
    assert torch.equal(own.sigmas, same.sigmas)
    assert (other.sigmas[1:-1] > own.sigmas[1:-1]).all()
    assert len(own.timesteps) == 4
    assert own is not same


def test_euler_without_linear_sigmas_uses_its_own() -> None:
    own, linear = (
        build_scheduler(EULER, {"shift": 3.0}, None, 4, linear_sigmas=given)
        for given in (False, True)
    )
    assert not torch.allclose(own.sigmas[1:-1], linear.sigmas[1:-1], atol=1e-3)


def test_unlisted_scheduler_class_is_refused() -> None:
    with pytest.raises(KeyError):
        build_scheduler("DDIMScheduler", {}, None, 4)


def test_distilled_timesteps_are_those_of_the_model() -> None:
    scheduler: Any = distilled_scheduler((1000, 757, 522))
    np.testing.assert_allclose(scheduler.timesteps, [1000, 757, 522], rtol=1e-6)
    np.testing.assert_allclose(scheduler.sigmas, [1.0, 0.757, 0.522, 0], rtol=1e-6)


def test_distilled_step_predicts_clean_latents_and_adds_new_noise() -> None:
    scheduler: Any = distilled_scheduler((1000, 500))
    scheduler.set_begin_index(0)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn((1, 2, 1, 2, 2), generator=torch.Generator().manual_seed(3))
    sample, velocity = torch.full((1, 2, 1, 2, 2), 2.0), torch.full((1, 2, 1, 2, 2), 1.5)
    made = scheduler.step(velocity, 1000.0, sample, return_dict=False, generator=generator)[0]
    torch.testing.assert_close(made, 0.5 * (sample - velocity) + 0.5 * noise)
    last = scheduler.step(velocity, 500.0, sample, return_dict=False, generator=generator)[0]
    torch.testing.assert_close(last, sample - 0.5 * velocity)
