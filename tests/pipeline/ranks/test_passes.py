"""The transformer runs the expected number of passes, with the expected batch sizes and dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams, VideoRequest
from pipeline.ranks import denoiser
from pipeline.ranks.batch import Batch
from pipeline.ranks.messages import Setup
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import settings

INFO = Checkpoint.open(SHAPES).info
STEPS = 2


def request(guidance: float, seed: int = 7) -> VideoRequest:
    params = SamplingParams(
        prompt="-",
        height=32,
        width=48,
        num_inference_steps=STEPS,
        seed=seed,
        guidance_scale=guidance,
    )
    return INFO.resolve(params)


def arrays() -> dict[str, np.ndarray]:
    return {
        name: np.random.default_rng(seed).standard_normal((1, 9, INFO.text_dim)).astype(np.float32)
        for seed, name in enumerate(("prompt_embeds", "negative_embeds"))
    }


class Watched:
    """A rank that records the batch sizes and dtypes its transformer was called with."""

    def __init__(self, precision: str = "fp32") -> None:
        setup = Setup(settings=settings(SHAPES, precision=precision), rank=0, store="none")
        self.rank = denoiser.Denoiser(setup)
        self.batches: list[int] = []
        self.inputs: set[torch.dtype] = set()
        self.latents: set[torch.dtype] = set()
        (model,) = self.rank._experts.models
        assert isinstance(model, torch.nn.Module)
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        self.batches.append(len(hidden))
        self.inputs |= {hidden.dtype, kwargs["encoder_hidden_states"].dtype}

    def run(self, *requests: VideoRequest) -> list[np.ndarray]:
        def before_step(batch: Batch) -> None:
            self.latents |= {sample.latents.dtype for sample in batch.running.values()}

        self.batches.clear()
        made = self.rank.run(requests, [arrays() for _ in requests], before_step)
        return list(made.values())


@pytest.fixture(scope="module")
def watched() -> Watched:
    return Watched()


def tokens_of(count: int) -> int:
    _, _, frames, height, width = INFO.latent_shape(request(1.0))
    return count * frames * (height // INFO.patch_size) * (width // INFO.patch_size)


@pytest.mark.parametrize(("guidance", "passes"), [(1.0, 1), (0.0, 1), (1.01, 2), (5.0, 2)])
def test_guidance_of_at_most_one_runs_one_pass(
    watched: Watched, guidance: float, passes: int
) -> None:
    watched.run(request(guidance))
    assert watched.batches == [passes] * STEPS


@pytest.mark.parametrize("count", [1, 2])
def test_branches_share_a_batch_up_to_a_number_of_tokens(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    assert INFO.patch_size > 1
    requests = [request(3.0, seed) for seed in range(count)]
    monkeypatch.setattr(denoiser, "BATCHED_GUIDANCE_TOKENS", tokens_of(count))
    together = watched.run(*requests)
    assert watched.batches == [2 * count] * STEPS
    monkeypatch.setattr(denoiser, "BATCHED_GUIDANCE_TOKENS", tokens_of(count) - 1)
    apart = watched.run(*requests)
    assert watched.batches == [count] * (2 * STEPS)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-5)  # measured: 1.2e-5


def test_bf16_computes_in_bf16_and_keeps_latents_in_float32(watched: Watched) -> None:
    half = Watched("bf16")
    (made,), (expected,) = half.run(request(3.0)), watched.run(request(3.0))
    assert half.inputs == {torch.bfloat16}
    assert half.latents == {torch.float32}
    assert watched.inputs == watched.latents == {torch.float32}
    assert made.dtype == np.float32
    assert 0 < np.abs(made - expected).max() < 0.2 * np.abs(expected).max()
