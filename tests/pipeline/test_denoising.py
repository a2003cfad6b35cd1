"""The loop on a flow whose end is known: all data at one point c, so the velocity at x and sigma is (x - c) / sigma."""

from __future__ import annotations

import pytest
import torch

from pipeline.denoising import denoise, in_turns, together
from pipeline.scheduling import build_scheduler

EULER = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
UNIPC = (
    "UniPCMultistepScheduler",
    {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0, "final_sigmas_type": "zero"},
)


class OnePoint:
    """All clips of a text are the number that its embedding holds."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        self.batches.append(len(hidden_states))
        sigma = (timestep.double() / 1000).view(-1, 1, 1, 1, 1)
        points = encoder_hidden_states[:, 0, 0].double().view(-1, 1, 1, 1, 1)
        return (((hidden_states.double() - points) / sigma).float(),)


def text(point: float) -> torch.Tensor:
    return torch.full((1, 4, 8), point)


def run(scheduler: tuple[str, dict], steps: int, guidance: float, negative: float | None, *, batch: bool) -> tuple:
    model, seen = OnePoint(), []
    latents = denoise(
        model,
        torch.randn((1, 2, 3, 4, 4), generator=torch.Generator().manual_seed(0)),
        build_scheduler(*scheduler, None, steps),
        text(0.5),
        None if negative is None else text(negative),
        guidance,
        guide=together if batch else in_turns,
        before_step=lambda step, _: seen.append(step),
    )
    return latents, model.batches, seen


@pytest.mark.parametrize("scheduler", [EULER, UNIPC], ids=["euler", "unipc"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_it_ends_where_the_flow_does(scheduler: tuple[str, dict], steps: int) -> None:
    latents, batches, seen = run(scheduler, steps, 1.0, None, batch=True)
    # UniPC tells the model whole timesteps: its sigma is off by up to 0.001.
    assert torch.allclose(latents, torch.full_like(latents, 0.5), atol=5e-3)
    assert batches == [1] * steps
    assert seen == list(range(steps))


@pytest.mark.parametrize(("batch", "batches"), [(True, [2] * 4), (False, [1] * 8)])
def test_guidance_goes_past_the_prompt_away_from_the_negative(batch: bool, batches: list[int]) -> None:
    """Velocities are linear in c, so guidance w ends at c_neg + w (c_pos - c_neg)."""
    latents, seen, _ = run(EULER, 4, 3.0, 0.25, batch=batch)
    assert torch.allclose(latents, torch.full_like(latents, 0.25 + 3.0 * (0.5 - 0.25)), atol=1e-3)
    assert seen == batches
