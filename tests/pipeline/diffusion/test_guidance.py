"""The two branches of guidance are computed and combined; the models are one-line functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.diffusion.denoising import Sample
from pipeline.diffusion.guidance import (
    Experts,
    Predictor,
    batched,
    on_separate_ranks,
    sequential,
    stack,
    stack_timesteps,
)
from pipeline.diffusion.schedulers import build_scheduler

POSITIVE = {"states": torch.full((1, 3, 2), 2.0)}
NEGATIVE = {"states": torch.full((1, 3, 2), -1.0)}


class Linear:
    """A model whose velocity is hidden states + timestep + 10 * the mean of the text."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        *,
        return_dict: bool,
        states: torch.Tensor,
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        assert len(hidden_states) == len(timestep) == len(states)
        self.batches.append(len(hidden_states))
        added = timestep + 10 * states.mean((1, 2))
        return (hidden_states + added.view(-1, 1, 1, 1, 1),)


HIDDEN, TIMESTEP = torch.arange(2.0).view(2, 1, 1, 1, 1), torch.tensor([100.0, 200.0])
POSITIVES, NEGATIVES = stack([POSITIVE, POSITIVE]), stack([NEGATIVE, NEGATIVE])
ABOVE = torch.tensor([120.0, 221.0]).view(2, 1, 1, 1, 1)
BELOW = torch.tensor([90.0, 191.0]).view(2, 1, 1, 1, 1)


@pytest.mark.parametrize(("guide", "batches"), [(batched, [4]), (sequential, [2, 2])])
def test_positive_branch_comes_before_negative(guide: Any, batches: list[int]) -> None:
    model = Linear()
    above, below = guide(model, HIDDEN, TIMESTEP, (POSITIVES, NEGATIVES))
    assert torch.equal(above, ABOVE)
    assert torch.equal(below, BELOW)
    assert model.batches == batches


@pytest.mark.parametrize("index", [0, 1])
def test_each_rank_computes_only_its_branch(index: int) -> None:
    class FakeAxis:
        def __init__(self) -> None:
            self.index = index

        def all_gather(self, own: torch.Tensor) -> torch.Tensor:
            assert torch.equal(own, (ABOVE, BELOW)[index])
            return torch.stack((ABOVE, BELOW))

    model, axis = Linear(), FakeAxis()
    guide = on_separate_ranks(axis)
    above, below = guide(model, HIDDEN, TIMESTEP, (POSITIVES, NEGATIVES))
    assert torch.equal(above, ABOVE)
    assert torch.equal(below, BELOW)
    assert model.batches == [2]


def sample(scale: float | None, steps: int = 4, **options: Any) -> Sample:
    scheduler = build_scheduler("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}, None, steps)
    negative = None if scale is None else NEGATIVE
    options = {"guidance_scales": (scale or 1.0,), **options}
    return Sample(torch.zeros(1, 1, 1, 1, 1), scheduler, POSITIVE, negative, **options)


def test_velocity_is_extrapolated_from_negative_past_positive() -> None:
    """The result is v_neg + w (v_pos - v_neg), and each sample has its own w."""
    model = Linear()
    predict = Predictor(Experts([model]), batched, torch.float32)
    samples = [sample(3.0), sample(0.5), sample(None), sample(1.0)]
    made = [velocity.item() for velocity in predict(samples)]
    time = float(samples[0].timestep)
    assert made == pytest.approx([time - 10 + 90, time - 10 + 15, time + 20, time + 20])
    assert model.batches == [6, 1], "one batch of those with guidance, one of those without"


def test_velocities_are_in_the_order_of_the_samples() -> None:
    predict = Predictor(Experts([Linear(), Linear()], 500.0), batched, torch.float32)
    samples = [sample(None, step=step) for step in (3, 0, 2, 1)]
    made = [velocity.item() - 20 for velocity in predict(samples)]
    assert made == pytest.approx([float(each.timestep) for each in samples])


def test_model_gets_hidden_states_in_its_own_dtype() -> None:
    seen: list[torch.dtype] = []

    def model(hidden_states: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        seen.append(hidden_states.dtype)
        return (hidden_states,)

    predict = Predictor(Experts([model]), batched, torch.bfloat16)
    (made,) = predict([sample(None)])
    assert seen == [torch.bfloat16]
    assert made.shape == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("count", "timestep", "index"),
    [(1, 0.0, 0), (1, 900.0, 0), (2, 500.0, 0), (2, 499.0, 1), (2, 900.0, 0), (2, 0.0, 1)],
)
def test_second_expert_runs_below_the_boundary(count: int, timestep: float, index: int) -> None:
    experts = Experts([Linear()] * count, 500.0 if count > 1 else 0.0)
    assert experts.index(torch.tensor(timestep)) == index


def test_each_expert_has_its_own_scale() -> None:
    predict = Predictor(Experts([Linear(), Linear()], 500.0), batched, torch.float32)
    early, late = (sample(2.0, guidance_scales=(2.0, 5.0), step=step) for step in (0, 3))
    made = [velocity.item() for velocity in predict([early, late])]
    expected = [float(early.timestep) - 10 + 60, float(late.timestep) - 10 + 150]
    assert made == pytest.approx(expected)


def test_texts_of_different_lengths_are_zero_padded() -> None:
    one = {"text": torch.ones(1, 2, 3), "mask": torch.ones(1, 2), "size": torch.ones(1, 4)}
    other = {"text": torch.ones(1, 5, 3), "mask": torch.ones(1, 5), "size": torch.ones(1, 4)}
    both = stack([one, other])
    assert {name: tuple(tensor.shape) for name, tensor in both.items()} == {
        "text": (2, 5, 3),
        "mask": (2, 5),
        "size": (2, 4),
    }
    assert both["mask"].tolist() == [[1, 1, 0, 0, 0], [1] * 5]
    assert torch.equal(both["text"][0, :2], one["text"][0])
    assert not both["text"][0, 2:].any()


def test_timesteps_of_videos_with_and_without_an_image_go_together() -> None:
    one, tokens = torch.tensor([7]), torch.tensor([[0.0, 5.0, 5.0]])
    assert stack_timesteps([one, one]).tolist() == [7, 7]
    assert stack_timesteps([one, tokens]).tolist() == [[7, 7, 7], [0, 5, 5]]
