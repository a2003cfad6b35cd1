"""Requests of one shape run as one batch: each gives the same video as alone, and can end early."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CancelledError, GenerationError
from pipeline.families import SamplingParams
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup, Timeouts
from pipeline.ranks.process import RankLostError
from pipeline.ranks.tasks import Outcome, Task
from tests.conftest import SHAPES
from tests.needs import exhaustive
from tests.pipeline.ranks.groups import pids, run_one, settings

TIMEOUTS = Timeouts(startup=120, heartbeat=15, step=60)
STEPS = 3
pytestmark = pytest.mark.ranks


def task(
    checkpoint: Checkpoint, seed: int, tokens: int = 9, nothing: bool = False, **params: Any
) -> Task:
    info, random = checkpoint.info, np.random.default_rng(seed)
    values = {
        "prompt": "-",
        "height": 32,
        "width": 48,
        "num_inference_steps": STEPS,
        "seed": seed,
        **params,
    }

    def some(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    length = tokens + checkpoint.family.template_tokens
    arrays = {"prompt_embeds": some(1, length, info.text_dim)}
    if info.pooled_dim:
        arrays["pooled_embeds"] = some(1, info.pooled_dim)
    else:
        arrays["negative_embeds"] = some(1, tokens, info.text_dim)
    if nothing:
        arrays["prompt_embeds"][:] = np.nan
    size = (64, 32) if info.image == "required" else None
    return Task(info.resolve(SamplingParams(**values), image=size), arrays, lambda step: None)


def asked(task: Task, before_step: Callable[[int], None]) -> Task:
    return Task(task.request, task.arrays, before_step)


@pytest.fixture(scope="module")
def one() -> Iterator[RankGroup]:
    with RankGroup(settings(SHAPES), TIMEOUTS) as group:
        yield group


@pytest.fixture(scope="module", params=[Layout(ulysses=2), Layout(branches=2)], ids=str)
def pair(request: pytest.FixtureRequest) -> Iterator[RankGroup]:
    with RankGroup(settings(SHAPES, request.param), TIMEOUTS) as group:
        yield group


SHAPE_TASKS = [
    task(Checkpoint.open(SHAPES), 1),
    task(Checkpoint.open(SHAPES), 2, tokens=5, guidance_scale=2.0),
    task(Checkpoint.open(SHAPES), 3, flow_shift=7.0),
]


def alone(group: RankGroup, tasks: list[Task]) -> list[np.ndarray]:
    return [run_one(group, each.request, each.arrays, each.before_step) for each in tasks]


def equal(made: list[Outcome], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(made, expected, strict=True):
        assert isinstance(ours, np.ndarray)
        assert theirs.std() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_each_request_of_a_batch_gives_the_same_video_as_alone(
    one: RankGroup, pair: RankGroup
) -> None:
    expected = alone(one, SHAPE_TASKS)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    equal(one.run_batch(SHAPE_TASKS), expected)
    equal(pair.run_batch(SHAPE_TASKS), expected)


@pytest.mark.parametrize("at", [0, 2])
def test_stopping_one_request_leaves_the_others_unchanged(
    one: RankGroup, pair: RankGroup, at: int
) -> None:
    first, second, third = SHAPE_TASKS
    seen: list[int] = []

    def stop(step: int) -> None:
        seen.append(step)
        if step == at:
            raise CancelledError("cancelled")

    expected, starts = alone(one, [first, third]), pair.starts
    made = pair.run_batch([first, asked(second, stop), third])
    assert isinstance(made[1], CancelledError)
    assert seen == list(range(at + 1)), "it is not asked again"
    equal([made[0], made[2]], expected)
    assert pair.starts == starts


def test_all_requests_of_a_batch_can_be_stopped(pair: RankGroup) -> None:
    def stop(step: int) -> None:
        raise CancelledError(f"before {step}")

    made = pair.run_batch([asked(each, stop) for each in SHAPE_TASKS])
    assert [str(error) for error in made] == ["before 0"] * 3
    assert np.isfinite(alone(pair, SHAPE_TASKS[:1])[0]).all()


def test_latents_that_are_not_finite_fail_only_their_request(
    one: RankGroup, pair: RankGroup
) -> None:
    first, second, _ = SHAPE_TASKS
    made = pair.run_batch([first, task(Checkpoint.open(SHAPES), 4, nothing=True), second])
    assert isinstance(made[1], GenerationError)
    assert str(made[1]) == f"latents are not finite after step 1 of {STEPS}"
    equal([made[0], made[2]], alone(one, [first, second]))


def joined(
    group: RankGroup, tasks: list[Task], at: Mapping[int, int], seats: int = 3
) -> list[Outcome]:
    """Return the outcomes of tasks of which the first begins, and task ``i`` joins before step
    ``at[i]`` of the first one if one of ``seats`` is free.
    """
    outcomes: dict[int, Outcome] = {}
    seen, waiting = [-1], list(range(1, len(tasks)))

    def placed(place: int) -> Task:
        def before_step(step: int) -> None:
            if place == 0:
                seen.append(step)
            tasks[place].before_step(step)

        return replace(
            tasks[place], before_step=before_step, end=partial(outcomes.__setitem__, place)
        )

    def join(running: int) -> list[Task]:
        due = [place for place in waiting if at[place] <= seen[-1]][: seats - running]
        waiting[:] = [place for place in waiting if place not in due]
        return [placed(place) for place in due]

    group.run_open_batch([placed(0)], join)
    assert not waiting, "the batch ended before they joined"
    return [outcomes[place] for place in range(len(tasks))]


@pytest.mark.parametrize("at", [{1: 0, 2: 0}, {1: 1, 2: 2}, {1: 2, 2: 2}], ids=str)
def test_requests_that_join_give_the_same_videos_as_alone(
    one: RankGroup, pair: RankGroup, at: dict[int, int]
) -> None:
    expected = alone(one, SHAPE_TASKS)
    equal(joined(one, SHAPE_TASKS, at), expected)
    equal(joined(pair, SHAPE_TASKS, at), expected)


def test_a_request_takes_the_seat_of_one_that_has_ended(one: RankGroup, pair: RankGroup) -> None:
    """The second one joins, ends, and is followed by the third, before the first has ended."""
    checkpoint = Checkpoint.open(SHAPES)
    tasks = [task(checkpoint, 1, num_inference_steps=8), *SHAPE_TASKS[1:]]
    expected = alone(one, tasks)
    equal(joined(one, tasks, {1: 1, 2: 1}, seats=2), expected)
    equal(joined(pair, tasks, {1: 1, 2: 1}, seats=2), expected)


def test_outcomes_are_delivered_while_others_run(pair: RankGroup) -> None:
    order: list[str] = []
    long = task(Checkpoint.open(SHAPES), 1, num_inference_steps=6)
    first = replace(
        long,
        before_step=lambda step: order.append(f"step {step}"),
        end=lambda _: order.append("end"),
    )
    second = replace(SHAPE_TASKS[1], end=lambda _: order.append("end of the short one"))
    pair.run_open_batch([first, second])
    assert order.index("end of the short one") == order.index(f"step {STEPS}") - 1
    assert order[-1] == "end"


def test_failing_and_stopped_requests_that_joined_leave_the_first_unchanged(
    one: RankGroup, pair: RankGroup
) -> None:
    def stop(step: int) -> None:
        if step == 1:
            raise CancelledError("cancelled")

    tasks = [
        SHAPE_TASKS[0],
        task(Checkpoint.open(SHAPES), 4, nothing=True),
        asked(SHAPE_TASKS[1], stop),
    ]
    starts = pair.starts
    made = joined(pair, tasks, {1: 1, 2: 1})
    assert isinstance(made[1], GenerationError)
    assert str(made[1]) == f"latents are not finite after step 1 of {STEPS}"
    assert isinstance(made[2], CancelledError)
    equal(made[:1], alone(one, tasks[:1]))
    assert pair.starts == starts


def test_a_lost_rank_ends_all_that_run_with_its_error(one: RankGroup) -> None:
    """Not the one that had ended before."""
    outcomes: dict[int, Outcome] = {}

    def kill(step: int) -> None:
        if step == STEPS:
            os.kill(pids(one)[0], signal.SIGKILL)

    long = [
        replace(
            task(Checkpoint.open(SHAPES), place, num_inference_steps=6),
            before_step=kill if place == 0 else lambda step: None,
            end=partial(outcomes.__setitem__, place),
        )
        for place in (0, 1)
    ]
    short = replace(SHAPE_TASKS[2], end=partial(outcomes.__setitem__, 2))
    with pytest.raises(RankLostError, match="killed by SIGKILL"):
        one.run_open_batch([*long, short])
    assert isinstance(outcomes[0], RankLostError)
    assert outcomes[1] is outcomes[0]
    assert isinstance(outcomes[2], np.ndarray)


@pytest.mark.parametrize("family", ["wan2.1-t2v", exhaustive("wan2.2-t2v")])
def test_requests_that_join_keep_their_step_cache(
    build_family: Callable[[str], Path], family: str
) -> None:
    path = build_family(family)
    checkpoint = Checkpoint.open(path)
    ratios = ((tuple([0.98] * 10),),) * len(checkpoint.family.transformers)
    stage = settings(path, Layout(ulysses=2), step_cache_table=StepCacheTable(ratios=ratios))
    plain = [task(checkpoint, seed, num_inference_steps=10) for seed in range(3)]
    tasks = [
        replace(each, request=each.request.model_copy(update={"step_cache": level}))
        for each, level in zip(plain, ("2x", "off", "1.5x"), strict=True)
    ]
    with RankGroup(stage, TIMEOUTS) as group:
        expected = alone(group, tasks)
        equal(joined(group, tasks, {1: 3, 2: 6}), expected)


@pytest.mark.parametrize("family", ["hunyuan-video", "wan2.2-t2v"])
def test_text_lengths_and_expert_steps_may_differ_within_a_batch(
    build_family: Callable[[str], Path], family: str
) -> None:
    """HunyuanVideo's texts are not padded, and another shift moves the step at which Wan 2.2's
    second expert takes over.
    """
    path = build_family(family)
    checkpoint = Checkpoint.open(path)
    tasks = [task(checkpoint, 1, tokens=4), task(checkpoint, 2, tokens=9, flow_shift=1.0)]
    with RankGroup(settings(path, Layout(ulysses=2)), TIMEOUTS) as group:
        expected = alone(group, tasks)
        equal(group.run_batch(tasks), expected)
        equal(joined(group, tasks, {1: 2}), expected)


@pytest.mark.parametrize("family", [exhaustive("wan2.1-i2v"), "wan2.2-ti2v"])
def test_images_may_differ_within_a_batch(build_family: Callable[[str], Path], family: str) -> None:
    """Each request has its own image; where the image is optional, the batch also has a request
    without one.
    """
    path = build_family(family)
    checkpoint = Checkpoint.open(path)
    tasks = [from_image(checkpoint, task(checkpoint, seed, width=64), seed) for seed in (1, 2)]
    if checkpoint.info.image == "optional":
        tasks.append(task(checkpoint, 3, width=64))
    with RankGroup(settings(path, Layout(ulysses=2)), TIMEOUTS) as group:
        expected = alone(group, tasks)
        equal(group.run_batch(tasks), expected)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def from_image(checkpoint: Checkpoint, asked: Task, seed: int) -> Task:
    """Return ``asked`` with image latents. They cover the whole clip if the family takes them as
    channels, and one frame otherwise.
    """
    info, random = checkpoint.info, np.random.default_rng(seed)
    _, channels, frames, height, width = info.latent_shape(asked.request)
    length = frames if checkpoint.family.image_in_channels else 1
    made = {
        "image_latents": random.standard_normal((1, channels, length, height, width)).astype(
            np.float32
        )
    }
    if encoder := info.image_encoder:
        made["image_embeds"] = random.standard_normal((1, encoder.tokens, encoder.dim)).astype(
            np.float32
        )
    return Task(asked.request, {**asked.arrays, **made}, asked.before_step)
