"""An edit begins within the schedule, with the noise that belongs there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.diffusion.denoising import denoise
from pipeline.diffusion.samples import Samples, initial_noise
from pipeline.diffusion.schedulers import build_scheduler, distilled_scheduler, noised
from pipeline.ensemble.tensors import IMAGE_LATENTS, NEGATIVE_EMBEDS, PROMPT_EMBEDS
from pipeline.families import SamplingParams
from pipeline.families.step_cache.option import StepCache
from tests.conftest import SHAPES
from tests.pipeline.diffusion.test_schedulers import EULER, UNIPC, UNIPC_CONFIG

SHAPE = (1, 2, 3, 2, 2)
CPU = torch.device("cpu")


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: build_scheduler(EULER, {"shift": 3.0}, None, 4),
        lambda: build_scheduler(UNIPC, UNIPC_CONFIG, None, 4),
        lambda: distilled_scheduler((1000, 757, 522)),
    ],
    ids=["euler", "unipc", "distilled"],
)
def test_noise_is_that_of_the_step(scheduler: Any, step: int) -> None:
    clean, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    made = scheduler()
    sigma = made.sigmas[step]
    expected = (1 - sigma) * clean + sigma * noise
    torch.testing.assert_close(noised(made, step, clean, noise), expected)
    made.step(torch.zeros(SHAPE), made.timesteps[step], expected, return_dict=False)
    assert made.step_index == step + 1


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(SHAPES)


def arrays_of(checkpoint: Checkpoint, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    texts = np.zeros((1, 4, checkpoint.info.text_dim), np.float32)
    clean = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    return {PROMPT_EMBEDS.key: texts, NEGATIVE_EMBEDS.key: texts, IMAGE_LATENTS.key: clean}


def test_an_edit_of_a_true_velocity_returns_its_source(checkpoint: Checkpoint) -> None:
    """With velocity = noise - clean, which points from the source to the noise, every schedule
    that begins with the right amount of noise ends at the source.
    """
    params = SamplingParams(prompt="-", seed=7, num_inference_steps=10)
    request = checkpoint.info.resolve(params).model_copy(update={"strength": 0.35})
    shape = checkpoint.info.latent_shape(request)
    arrays = arrays_of(checkpoint, shape)
    clean = torch.from_numpy(arrays[IMAGE_LATENTS.key])
    velocity = initial_noise(shape, torch.Generator().manual_seed(7)) - clean
    sample = Samples(checkpoint, CPU, torch.float32).make(request, arrays)
    steps: list[int] = []
    denoise(
        [sample],
        lambda _: [velocity],
        lambda running: steps.extend(each.step for each in running),
    )
    assert steps == [7, 8, 9]
    torch.testing.assert_close(sample.latents, clean, rtol=0, atol=1e-4)


def test_the_first_step_of_an_edit_is_never_one_that_is_reused(checkpoint: Checkpoint) -> None:
    assert checkpoint.step_cache is not None
    cache = StepCache(table=checkpoint.step_cache)
    params = SamplingParams(prompt="-", num_inference_steps=20, step_cache="2x")
    plain = checkpoint.info.resolve(params)
    arrays = arrays_of(checkpoint, checkpoint.info.latent_shape(plain))
    samples = Samples(checkpoint, CPU, torch.float32, cache)
    reused = samples.make(plain, arrays).reused_steps
    assert reused
    for first in range(20):
        edit = plain.model_copy(update={"strength": (20 - first) / 20})
        sample = samples.make(edit, arrays)
        assert sample.step == first
        assert sample.reused_steps == {step for step in reused if step > first}
