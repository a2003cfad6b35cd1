"""The denoiser of one rank computes without a process around it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError, InputError
from pipeline.families import SamplingParams
from pipeline.ranks import denoiser
from pipeline.ranks.batch import Batch
from tests.conftest import SHAPES
from tests.hostile_checkpoints import TRANSFORMER, keep_tensors
from tests.pipeline.ranks.groups import single_rank


def test_batched_and_sequential_guidance_give_the_same_latents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = Checkpoint.open(SHAPES).info
    rank = denoiser.Denoiser(single_rank(SHAPES))
    request = info.resolve(
        SamplingParams(prompt="-", height=32, width=32, num_inference_steps=3, seed=7)
    )
    embeds = [
        np.random.default_rng(seed).standard_normal((1, 9, info.text_dim)).astype(np.float32)
        for seed in (1, 2)
    ]

    arrays = dict(zip(("prompt_embeds", "negative_embeds"), embeds, strict=True))
    batched = rank.run([request], [arrays], lambda batch: None)[0]
    monkeypatch.setattr(denoiser, "BATCHED_GUIDANCE_TOKENS", 0)
    in_turns = rank.run([request], [arrays], lambda batch: None)[0]

    assert batched.std() > 0.1
    np.testing.assert_allclose(in_turns, batched, rtol=0, atol=1e-4)


def estimates(monkeypatch: pytest.MonkeyPatch, *, previews: bool, step_s: float) -> list[int]:
    """Return the steps before which a rank sends an estimate, of three that take ``step_s``."""
    setup = single_rank(SHAPES)
    settings = setup.settings.model_copy(update={"previews": previews})
    rank = denoiser.Denoiser(setup.model_copy(update={"settings": settings}))
    info = Checkpoint.open(SHAPES).info
    request = info.resolve(
        SamplingParams(prompt="-", height=16, width=16, num_inference_steps=4, guidance_scale=1)
    )
    clock = [1000.0]
    monkeypatch.setattr(denoiser, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    sent: list[int] = []

    def before_step(batch: Batch) -> None:
        clock[0] += step_s
        if estimate := rank.take_estimate(batch):
            place, array = estimate
            assert (place, array.shape) == (0, (1, 16, 1, 2, 2))
            assert array.dtype == np.float32
            sent.append(batch.running[0].step)
        assert rank.take_estimate(batch) is None, "it is sent once"

    arrays = {"prompt_embeds": np.zeros((1, 1, info.text_dim), np.float32)}
    rank.run([request], [arrays], before_step)
    return sent


@pytest.mark.parametrize(
    ("previews", "step_s", "steps"),
    [(True, 2.0, [1, 2, 3]), (True, 0.6, [1, 3]), (True, 0.1, [1]), (False, 2.0, [])],
)
def test_estimates_are_sent_at_most_once_a_second(
    monkeypatch: pytest.MonkeyPatch, previews: bool, step_s: float, steps: list[int]
) -> None:
    assert estimates(monkeypatch, previews=previews, step_s=step_s) == steps


@pytest.mark.parametrize("name", ["blocks.3.ffn.net.2.weight", "patch_embedding.bias"])
def test_missing_weights_are_refused(tmp_path: Path, name: str) -> None:
    """Without this check, a checkpoint that skipped the export's check would run on uninitialised
    memory.
    """
    folder = Path(shutil.copytree(SHAPES, tmp_path / "model"))
    keep_tensors(folder / TRANSFORMER, lambda found: found != name)
    setup = single_rank(folder)
    with pytest.raises(CheckpointError, match=rf"transformer: no file holds {name}$"):
        denoiser.Denoiser(setup)


def test_kernel_is_refused_before_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = single_rank(SHAPES)
    settings = setup.settings.model_copy(update={"attention_backend": "cudnn"})
    monkeypatch.delattr(denoiser, "_from_files")
    with pytest.raises(InputError, match=r"^attention_backend: cudnn needs an NVIDIA GPU"):
        denoiser.Denoiser(setup.model_copy(update={"settings": settings}))
