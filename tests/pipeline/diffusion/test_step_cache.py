"""Residuals are recorded and reused around the blocks, at the steps that diffusers' hook skips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks.mag_cache import MagCacheConfig
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.step_cache_table import load_table
from pipeline.diffusion.step_cache import BlockStack
from pipeline.families.step_cache import table as tables
from pipeline.families.step_cache.table import MAX_RUN, StepCacheTable
from pipeline.memory.transformer import step_cache
from pipeline.ranks.batch import Batch
from pipeline.ranks.denoiser import Denoiser
from pipeline.ranks.messages import Setup
from pipeline.ranks.offload import offload_layers
from tests.pipeline.ranks.groups import settings
from tests.pipeline.ranks.test_families import load, request_for, wan_texts
from tests.pipeline.ranks.test_offload import transformer, velocity


@pytest.fixture(scope="module")
def published() -> StepCacheTable:
    return load_table(Path(tables.__file__).parent / "wan2.1-t2v-1.3b.json")


def steps_of_hook(ratios: Sequence[float], steps: int, threshold: float) -> list[int]:
    """Return the steps that the hook of diffusers skips, in a transformer of two blocks."""
    model = WanTransformer3DModel(
        num_attention_heads=1, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=4,
        freq_dim=4, ffn_dim=4, num_layers=2, rope_max_seq_len=32,
    ).eval()  # fmt: skip
    calls, skipped = list[None](), list[int]()
    model.blocks[0].attn1.register_forward_hook(lambda *_: calls.append(None))
    model.enable_cache(
        MagCacheConfig(
            threshold=threshold,
            num_inference_steps=steps,
            mag_ratios=list(ratios),
            max_skip_steps=MAX_RUN,
        )
    )
    with torch.inference_mode():
        for step in range(steps):
            calls.clear()
            with model.cache_context("cond"):
                model(torch.zeros(1, 4, 1, 2, 2), torch.zeros(1), torch.zeros(1, 1, 4))
            if not calls:
                skipped.append(step)
    return skipped


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 50])
@pytest.mark.parametrize("threshold", [0.03, 5.0])
def test_steps_are_those_that_diffusers_hook_skips(
    published: StepCacheTable, steps: int, threshold: float
) -> None:
    ratios = published.ratios[0][0]
    ours = StepCacheTable(ratios=((ratios,),)).reused_steps([steps], threshold)
    assert sorted(ours) == steps_of_hook(ratios, steps, threshold)


def test_untouched_steps_give_the_same_velocity() -> None:
    model = transformer()
    expected = velocity(model)
    stack = BlockStack(model)
    assert torch.equal(velocity(model), expected)
    with stack.recording() as recorded:
        assert torch.equal(velocity(model), expected)
    assert torch.equal(velocity(model), expected)
    assert recorded[0].shape == (1, 2 * 2 * 2, 24)


@pytest.mark.parametrize("offloaded", [False, True])
def test_reused_residual_replaces_the_blocks(*, offloaded: bool) -> None:
    model = transformer()
    expected = velocity(model)
    if offloaded:
        offload_layers(model, torch.device("cpu"))
    stack, calls = BlockStack(model), list[Any]()
    for block in model.blocks:
        block.register_forward_hook(lambda *_: calls.append(None))
    with stack.recording() as recorded:
        velocity(model)
    calls.clear()
    with stack.reusing(recorded[0]):
        again = velocity(model)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)
    assert len(calls) == 2  # the entry and the exit
    with stack.reusing(recorded[0] * 2):
        assert not torch.allclose(velocity(model), expected, atol=1e-3)
    assert torch.equal(velocity(model), expected)


def test_failed_step_leaves_all_blocks_in_place() -> None:
    model = transformer()
    expected = velocity(model)
    stack = BlockStack(model)
    with pytest.raises(RuntimeError), stack.reusing(torch.zeros(1, 3, 3)):
        velocity(model)
    with pytest.raises(KeyError), stack.recording():
        raise KeyError
    assert torch.equal(velocity(model), expected)


def test_residuals_take_the_planned_memory(build_family: Callable[[str], Path]) -> None:
    path = build_family("wan2.1-t2v")
    request, table = request_for(path, num_inference_steps=10), ((1.0,) * 10,)
    stage = settings(path, step_cache="2x", step_cache_table=StepCacheTable(ratios=(table,)))
    sizes: list[int] = []

    def before_step(batch: Batch) -> None:
        sizes.append(sum(each.nbytes for s in batch.running.values() for each in s.residuals))

    rank = Denoiser(Setup(settings=stage, rank=0, store="none"))
    rank.run([request] * 2, [wan_texts(load(path), path)] * 2, before_step)
    assert max(sizes) == step_cache(Checkpoint.open(path), request, batch=2)
    assert sizes[:2] == [0, 0]  # the first step is never reused, and so not kept
