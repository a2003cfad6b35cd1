"""The leader's side of a batch: who runs, who joins, who ends and how, without ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CancelledError, GenerationError
from pipeline.families import SamplingParams
from pipeline.parallel.layout import Layout
from pipeline.ranks.group import RankGroup
from pipeline.ranks.messages import Done, Ready, Run, Setup, Step, Verdict
from pipeline.ranks.process import RankLostError
from pipeline.ranks.tasks import Outcome, RunningTasks, Task
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import settings
from tests.pipeline.ranks.test_group_limits import LATENTS, TIMEOUTS, FakeRank
from tests.pipeline.ranks.test_group_limits import clock as clock  # a fixture

INFO = Checkpoint.open(SHAPES).info
SEEDS = {"a": 1, "b": 2, "c": 3, "joins": 4, "late": 5}


class Told:
    """Tasks that record what they are told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.outcomes: dict[str, Outcome] = {}

    def task(self, name: str, stops_at: int = -1) -> Task:
        def before_step(step: int) -> None:
            self.steps.append((name, step))
            if step == stops_at:
                raise CancelledError(name)

        return Task(
            INFO.resolve(SamplingParams(prompt="-", seed=SEEDS[name])),
            {"prompt_embeds": np.full((1, 2), len(name), np.float32)},
            before_step,
            end=partial(self.outcomes.__setitem__, name),
        )


@pytest.fixture
def told() -> Told:
    return Told()


def no_one(_running: int) -> Sequence[Task]:
    return ()


def test_estimate_goes_to_its_task_before_the_step(told: Told) -> None:
    got: list[tuple[list[tuple[str, int]], np.ndarray]] = []
    take = lambda estimate: got.append((list(told.steps), estimate))  # noqa: E731
    running = RunningTasks([told.task("a"), replace(told.task("b"), estimated=take)], no_one)
    estimate = np.ones((1, 16, 1, 2, 2), np.float32)
    running.step(Step(steps={0: 3, 1: 3}, estimated=1), {"estimate": estimate})
    assert (len(got), got[0][0], told.outcomes) == (1, [], {})
    assert got[0][1] is estimate


def test_estimate_of_a_task_that_has_ended_is_dropped(told: Told) -> None:
    running = RunningTasks([told.task("a", stops_at=1), told.task("b")], no_one)
    running.step(Step(steps={0: 1, 1: 1}), {})
    running.step(Step(steps={1: 2}, estimated=0), {"estimate": np.ones(1, np.float32)})
    assert told.steps == [("a", 1), ("b", 1), ("b", 2)]


def test_latents_and_errors_of_a_step_end_their_tasks(told: Told) -> None:
    running = RunningTasks([told.task(name) for name in ("a", "b", "c")], no_one)
    message = Step(steps={1: 3, 2: 4}, errors={1: "too odd"})
    verdict, arrays = running.step(message, {"0": LATENTS})
    assert verdict == Verdict()
    assert arrays == {}
    assert told.outcomes.keys() == {"a", "b"}
    assert isinstance(told.outcomes["b"], GenerationError)
    assert told.steps == [("c", 4)], "the others are not asked"
    running.done(Done(), {"2": LATENTS})
    assert told.outcomes["c"] is LATENTS


def test_tasks_that_join_have_the_next_places(told: Told) -> None:
    seats: list[int] = []
    waiting = ["joins", "late"]

    def join(running: int) -> list[Task]:
        seats.append(running)
        return [told.task(waiting.pop(0))] if running < 2 and waiting else []

    running = RunningTasks([told.task("a", stops_at=1), told.task("b")], join)
    assert running.step(Step(steps={0: 0, 1: 0}, open=True), {})[0] == Verdict()
    verdict, arrays = running.step(Step(steps={0: 1, 1: 1}, open=True), {})
    assert verdict.stop == {0}
    assert [request.seed for request in verdict.joining] == [SEEDS["joins"]]
    assert list(arrays) == ["0.prompt_embeds"], "numbered within the message"
    running.step(Step(steps={1: 2, 2: 0}, open=True), {})
    verdict, _ = running.step(Step(steps={2: 1}, open=True), {"1": LATENTS})
    assert [request.seed for request in verdict.joining] == [SEEDS["late"]]
    assert seats == [2, 1, 2, 1]
    running.step(Step(steps={2: 2, 3: 0}), {})
    assert told.steps[-2:] == [("joins", 2), ("late", 0)]


def test_no_one_joins_a_batch_that_is_not_open(told: Told) -> None:
    running = RunningTasks([told.task("a")], lambda running: pytest.fail("it was asked"))
    assert running.step(Step(steps={0: 0}), {})[0] == Verdict()


def test_a_failure_ends_those_that_run_and_those_that_joined(told: Told) -> None:
    running = RunningTasks([told.task("a"), told.task("b")], lambda _: [told.task("c")])
    running.step(Step(steps={0: 0, 1: 0}, open=True), {"0": LATENTS})
    error = RankLostError("gone")
    running.fail(error)
    running.fail(RankLostError("again"))
    assert told.outcomes == {"a": LATENTS, "b": error, "c": error}


def test_errors_that_each_rank_reports_end_a_task_once(told: Told) -> None:
    running = RunningTasks([told.task("a")], no_one)
    for reason in ("missing", "another rank cannot read a LoRA"):
        running.done(Done(errors={0: reason}), {})
    assert str(told.outcomes["a"]) == "missing"


@pytest.mark.usefixtures("clock")
def test_requests_that_join_are_sent_to_every_rank_and_to_the_first_one_first(told: Told) -> None:
    """The others read them only when rank 0 has told them: a large message sent to one of them
    first would wait for rank 0, and rank 0 for its answer.
    """
    order: list[tuple[int, Any]] = []

    def script(rank: FakeRank, message: Any) -> None:
        order.append((rank.rank, message))
        match message:
            case Setup():
                rank.answer(Ready(device="cpu"))
            case Run() if rank.rank == 0:
                rank.answer(Step(steps={0: 0}, open=True))
            case Verdict() if rank.rank == 1:
                rank.answer(Done())
            case Verdict() if message.joining:
                rank.answer(Step(steps={0: 1, 1: 0}, open=True))
            case Verdict():
                rank.answer(Done(), **{"0": LATENTS, "1": LATENTS})

    waiting = [told.task("b")]
    FakeRank.script = staticmethod(script)
    made = RankGroup(settings(SHAPES, Layout(ulysses=2)), TIMEOUTS)
    try:
        made.run_open_batch([told.task("a")], lambda _: [waiting.pop()] if waiting else [])
    finally:
        made.close()
    verdicts = [(rank, message) for rank, message in order if isinstance(message, Verdict)]
    assert [rank for rank, _ in verdicts] == [0, 1, 0]
    assert verdicts[0][1] == verdicts[1][1]
    assert [request.seed for request in verdicts[0][1].joining] == [SEEDS["b"]]
    assert verdicts[2][1] == Verdict()
    assert told.outcomes.keys() == {"a", "b"}
