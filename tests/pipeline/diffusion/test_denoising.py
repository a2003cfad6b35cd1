"""The denoising loop runs a flow with a known result: all data is at one point c, so the velocity
at x and sigma is (x - c) / sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from pipeline.diffusion.denoising import Sample, denoise
from pipeline.diffusion.guidance import Experts, Predictor, batched, sequential
from pipeline.diffusion.image_conditioning import AsFirstFrame
from pipeline.diffusion.schedulers import build_scheduler

EULER = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
UNIPC = (
    "UniPCMultistepScheduler",
    {
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": 3.0,
        "final_sigmas_type": "zero",
    },
)

# Measured: 1.2e-7, and 3.7e-3 with UniPC, which passes integer timesteps to the model: sigma is off
# by up to 0.001.
TOLERANCE = {EULER[0]: 1e-6, UNIPC[0]: 5e-3}


class OnePoint:
    """A model whose data is one point for each text: the number in the text's embedding."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        *,
        return_dict: bool,
        encoder_hidden_states: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        self.batches.append(len(hidden_states))
        sigma = (timestep.double() / 1000).view(-1, 1, 1, 1, 1)
        points = encoder_hidden_states[:, 0, 0].double().view(-1, 1, 1, 1, 1)
        return (((hidden_states.double() - points) / sigma).float(),)


def text(point: float) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": torch.full((1, 4, 8), point)}


def sample(
    scheduler: tuple[str, dict], steps: int, point: float, negative: float | None = None, **options
) -> Sample:
    return Sample(
        torch.randn((1, 2, 3, 4, 4), generator=torch.Generator().manual_seed(0)),
        build_scheduler(*scheduler, None, steps),
        text(point),
        None if negative is None else text(negative),
        **options,
    )


def run(
    scheduler: tuple[str, dict], steps: int, guidance: float, negative: float | None, *, batch: bool
) -> tuple:
    model, seen = OnePoint(), []
    video = sample(scheduler, steps, 0.5, negative, guidance_scales=(guidance,))
    predict = Predictor(Experts([model]), batched if batch else sequential, torch.float32)
    denoise([video], predict, lambda running: seen.append(running[0].step))
    return video.latents, model.batches, seen


@pytest.mark.parametrize("scheduler", [EULER, UNIPC], ids=["euler", "unipc"])
def test_estimate_is_the_clean_first_frame(scheduler: tuple[str, dict]) -> None:
    """The velocity of `OnePoint` points to its data from everywhere."""
    seen = []
    video = sample(scheduler, 7, 0.5, previewed=True)
    predict = Predictor(Experts([OnePoint()]), batched, torch.float32)
    denoise([video], predict, lambda running: seen.append(running[0].estimate))
    assert seen[0] is None
    for estimate in seen[1:]:
        assert estimate.shape == (1, 2, 1, 4, 4)
        torch.testing.assert_close(
            estimate, torch.full_like(estimate, 0.5), rtol=0, atol=TOLERANCE[scheduler[0]]
        )


@pytest.mark.parametrize(("given", "places"), [(0, [0]), (1, [0, 3]), (5, [0, 5]), (7, [0, 6])])
def test_estimate_shows_a_frame_that_no_image_gives(given: int, places: list[int]) -> None:
    image = torch.full((1, 2, given, 4, 4), 9.0)
    video = sample(EULER, 4, 0.0, conditioning=AsFirstFrame(image, 2), previewed=True)
    video.latents = torch.arange(7.0).view(1, 1, 7, 1, 1).expand(1, 2, 7, 4, 4)
    video.advance(torch.zeros_like(video.latents))
    assert video.estimate is not None
    shown = [9.0 if place < given else float(place) for place in places]
    assert video.estimate[0, 0, :, 0, 0].tolist() == shown


@pytest.mark.parametrize("scheduler", [EULER, UNIPC], ids=["euler", "unipc"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_denoising_ends_at_the_data_point(scheduler: tuple[str, dict], steps: int) -> None:
    latents, batches, seen = run(scheduler, steps, 1.0, None, batch=True)
    assert torch.allclose(
        latents, torch.full_like(latents, 0.5), rtol=0, atol=TOLERANCE[scheduler[0]]
    )
    assert batches == [1] * steps
    assert seen == list(range(steps))


@pytest.mark.parametrize(("batch", "batches"), [(True, [2] * 4), (False, [1] * 8)])
def test_guidance_extrapolates_from_the_negative_past_the_prompt(
    batch: bool, batches: list[int]
) -> None:
    """Velocities are linear in c, so guidance w ends at c_neg + w (c_pos - c_neg)."""
    latents, seen, _ = run(EULER, 4, 3.0, 0.25, batch=batch)
    end = torch.full_like(latents, 0.25 + 3.0 * (0.5 - 0.25))
    assert torch.allclose(latents, end, rtol=0, atol=TOLERANCE[EULER[0]])
    assert seen == batches


def test_samples_of_different_schedules_share_a_batch_until_one_ends() -> None:
    model = OnePoint()
    samples = [sample(EULER, 2, 0.5), sample(UNIPC, 4, -0.25)]
    denoise(samples, Predictor(Experts([model]), batched, torch.float32), lambda running: None)
    for video, (name, _), point in zip(samples, (EULER, UNIPC), (0.5, -0.25), strict=True):
        end = torch.full_like(video.latents, point)
        assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[name])
    assert model.batches == [2, 2, 1, 1]


def test_a_sample_that_joins_between_steps_ends_at_its_own_point() -> None:
    model, first = OnePoint(), sample(UNIPC, 4, 0.5)
    samples, seen = [first], list[int]()

    def before_step(running: Sequence[Sample]) -> None:
        seen.append(len(running))
        if first.step == 2 and len(samples) == 1:
            samples.append(sample(EULER, 3, -0.25))

    denoise(samples, Predictor(Experts([model]), batched, torch.float32), before_step)
    assert model.batches == [1, 1, 2, 2, 1]
    assert seen == [1, 1, 1, 2, 1]
    for video, (name, _), point in zip(samples, (UNIPC, EULER), (0.5, -0.25), strict=True):
        end = torch.full_like(video.latents, point)
        assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[name])


def test_the_second_expert_runs_below_the_boundary_with_its_own_scale() -> None:
    experts = [OnePoint(), OnePoint()]
    video = sample(EULER, 4, 0.5, 0.25, guidance_scales=(3.0, 2.0))
    boundary = float(video.scheduler.timesteps[1])
    denoise(
        [video],
        Predictor(Experts(experts, boundary), sequential, torch.float32),
        lambda running: None,
    )
    assert [len(expert.batches) for expert in experts] == [4, 4]
    end = torch.full_like(video.latents, 0.25 + 2.0 * (0.5 - 0.25))
    assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[EULER[0]])


def two_shifts() -> list[Sample]:
    """Return two samples of which the second passes the timestep 700 before the first."""
    return [sample(EULER, 3, 0.5), sample((EULER[0], {"shift": 1.0}), 3, -0.25)]


def test_samples_of_different_experts_run_in_separate_batches() -> None:
    experts, samples = [OnePoint(), OnePoint()], two_shifts()
    denoise(
        samples, Predictor(Experts(experts, 700.0), batched, torch.float32), lambda running: None
    )
    for video, point in zip(samples, (0.5, -0.25), strict=True):
        end = torch.full_like(video.latents, point)
        assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[EULER[0]])
    assert [expert.batches for expert in experts] == [[2, 1], [1, 2]]


@pytest.mark.parametrize("stop", [False, True])
def test_a_batch_changes_experts_once(stop: bool) -> None:
    """Changing experts may copy their weights to the GPU. A sample that waits can be stopped."""
    order: list[int] = []

    class Expert(OnePoint):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

        def __call__(self, *arguments: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
            order.append(self.index)
            return super().__call__(*arguments, **options)

    def before_step(running: Sequence[Sample]) -> None:
        samples[1].stopped = stop and len(order) == 2
        assert samples[1] in running or samples[1].done, "also while it waits"

    experts, samples = Experts([Expert(0), Expert(1)], 700.0), two_shifts()
    denoise(
        samples,
        Predictor(experts, batched, torch.float32),
        before_step,
        phase=lambda each: experts.index(each.timestep),
    )
    assert order == ([0, 0, 1] if stop else [0, 0, 1, 1])
    ends = zip(samples, (0.5, -0.25), strict=True)
    for video, point in list(ends)[: 1 if stop else 2]:
        end = torch.full_like(video.latents, point)
        assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[EULER[0]])


@pytest.mark.parametrize(
    ("largest", "batches"),
    [(None, [10]), (10, [10]), (8, [6, 4]), (4, [4, 4, 2]), (2, [2] * 5), (1, [2] * 5)],
)
def test_large_batches_run_in_passes_of_nearly_the_same_size(
    largest: int | None, batches: list[int]
) -> None:
    model = OnePoint()
    samples = [sample(EULER, 1, point, 0.0) for point in (0.5, -0.25, 0.75, 1.0, 0.0)]
    for video in samples:
        video.guidance_scales = (1.0,)
    predictor = Predictor(Experts([model]), batched, torch.float32, largest)
    denoise(samples, predictor, lambda running: None)
    assert model.batches == batches
    for video, point in zip(samples, (0.5, -0.25, 0.75, 1.0, 0.0), strict=True):
        end = torch.full_like(video.latents, point)
        assert torch.allclose(video.latents, end, rtol=0, atol=TOLERANCE[EULER[0]])


def test_a_stopped_sample_takes_no_further_step() -> None:
    model = OnePoint()
    samples = [sample(EULER, 3, 0.5), sample(EULER, 3, -0.25)]

    def before_step(running: Sequence[Sample]) -> None:
        samples[1].stopped |= running[0].step == 1

    denoise(samples, Predictor(Experts([model]), batched, torch.float32), before_step)
    assert model.batches == [2, 1, 1]
    assert [video.step for video in samples] == [3, 1]
    end = torch.full_like(samples[0].latents, 0.5)
    assert torch.allclose(samples[0].latents, end, rtol=0, atol=TOLERANCE[EULER[0]])
