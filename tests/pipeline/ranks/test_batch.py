"""Requests join and leave the batch of one rank between steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import VideoRequest
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.ranks import denoiser
from pipeline.ranks.batch import Batch
from pipeline.ranks.denoiser import Denoiser
from pipeline.ranks.messages import Setup
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import settings
from tests.pipeline.ranks.test_group_batches import task

TABLE = StepCacheTable(ratios=((tuple([0.98] * 10),),))
Asked = tuple[VideoRequest, dict[str, np.ndarray]]


def open_rank(checkpoint: Path = SHAPES) -> Denoiser:
    table = TABLE.model_copy(
        update={"ratios": TABLE.ratios * len(Checkpoint.open(checkpoint).family.transformers)}
    )
    stage = settings(checkpoint, step_cache_table=table)
    return Denoiser(Setup(settings=stage, rank=0, store="none"))


@pytest.fixture(scope="module")
def rank() -> Denoiser:
    return open_rank()


def asked(seed: int, checkpoint: Path = SHAPES, **params: Any) -> Asked:
    made = task(Checkpoint.open(checkpoint), seed, **params)
    return made.request, dict(made.arrays)


def alone(rank: Denoiser, one: Asked) -> np.ndarray:
    return rank.run([one[0]], [one[1]], lambda batch: None)[0]


def joined(rank: Denoiser, first: Asked, others: dict[int, Asked]) -> dict[int, np.ndarray]:
    """Return the latents of all by place; ``others`` join before these steps of the first one."""
    taken: dict[int, np.ndarray] = {}
    waiting = dict(others)

    def before_step(batch: Batch) -> None:
        taken.update(batch.take())
        step = batch.running[0].step if 0 in batch.running else max(others)
        for due in [at for at in waiting if at <= step]:
            request, arrays = waiting.pop(due)
            batch.add([request], [arrays])

    taken |= rank.run([first[0]], [first[1]], before_step)
    return taken


def equal(made: dict[int, np.ndarray], rank: Denoiser, *asked: Asked) -> None:
    assert sorted(made) == list(range(len(asked)))
    for place, one in enumerate(asked):
        expected = alone(rank, one)
        assert expected.std() > 0.1
        np.testing.assert_allclose(made[place], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", ["off", "2x"])
@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_joining_changes_no_video_although_guidance_changes_its_passes(
    rank: Denoiser, monkeypatch: pytest.MonkeyPatch, level: str, limit: int
) -> None:
    """Branches of up to ``limit`` samples share a pass. Residuals that were recorded in one pass
    are reused in two, and the other way round.
    """
    first = asked(1, num_inference_steps=10, step_cache=level)
    second = asked(2, num_inference_steps=10, step_cache="2x", guidance_scale=2.0)
    third = asked(3, num_inference_steps=3, step_cache="off", flow_shift=7.0)
    _, _, frames, height, width = Checkpoint.open(SHAPES).info.latent_shape(first[0])
    tokens = limit * frames * (height // 2) * (width // 2)
    monkeypatch.setattr(denoiser, "BATCHED_GUIDANCE_TOKENS", tokens)
    equal(joined(rank, first, {3: second, 6: third}), rank, first, second, third)


def test_two_experts_share_a_batch(build_family: Callable[[str], Path]) -> None:
    path = build_family("wan2.2-t2v")
    rank = open_rank(path)
    first, second = (asked(seed, path, num_inference_steps=6) for seed in (1, 2))
    equal(joined(rank, first, {5: second}), rank, first, second)


def test_no_one_joins_once_a_request_has_reached_an_offloaded_expert(
    build_family: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn would come after that of all who join."""
    path = build_family("wan2.2-t2v")
    rank = open_rank(path)
    request, arrays = asked(1, path, num_inference_steps=6)

    def seen() -> list[bool]:
        opened: list[bool] = []
        rank.run([request], [arrays], lambda batch: opened.append(batch.open))
        return opened

    assert seen() == [True] * 6
    monkeypatch.setattr(rank, "_offloads", True)
    opened = seen()
    assert opened == sorted(opened, reverse=True)
    assert set(opened) == {True, False}


def test_done_samples_leave_the_batch_and_places_are_not_used_again(rank: Denoiser) -> None:
    """A sequence of requests keeps one batch running, and only those that run are kept."""
    seen: list[list[int]] = []
    ended: list[int] = []

    def before_step(batch: Batch) -> None:
        ended.extend(batch.take())
        seen.append(sorted(batch.samples))
        assert batch.samples.keys() == batch.running.keys() == batch.requests.keys()
        if len(seen) in (2, 4):
            request, arrays = asked(len(seen))
            batch.add([request], [arrays])

    request, arrays = asked(1)
    left = rank.run([request], [arrays], before_step)
    assert seen == [[0], [0], [0, 1], [1], [2], [2]]
    assert ended == [0, 1]
    assert sorted(left) == [2]


def test_a_stopped_request_has_no_latents(rank: Denoiser) -> None:
    first, second = asked(1), asked(2)
    taken: list[dict[int, np.ndarray]] = []

    def before_step(batch: Batch) -> None:
        taken.append(batch.take())
        batch.stop({1, 7})

    made = rank.run([first[0], second[0]], [first[1], second[1]], before_step)
    assert sorted(made) == [0]
    assert not any(taken)


def test_each_running_request_has_its_turn_to_be_shown(rank: Denoiser) -> None:
    """Each new estimate is taken once. Those of requests that have ended are not."""
    counts = {0: 0, 1: 0}
    steps: list[int] = []

    def before_step(batch: Batch) -> None:
        steps.append(len(batch.running))
        if len(steps) == 30:
            batch.stop({1})
        while estimate := batch.take_estimate():
            place, array = estimate
            assert place in batch.running
            assert array.shape == (1, 16, 1, 4, 6)
            counts[place] += 1
            if len(steps) < 30:
                break

    first, second = (asked(seed, num_inference_steps=40) for seed in (1, 2))
    rank.run([first[0], second[0]], [first[1], second[1]], before_step)
    assert steps == [2] * 30 + [1] * 10
    assert min(counts.values()) > 0
    assert sum(counts.values()) == 39
