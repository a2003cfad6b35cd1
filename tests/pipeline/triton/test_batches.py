"""Jobs of one kind run together, and the queue accepts at most one batch ahead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams
from pipeline.families.lora import LoraInfo, Loras
from pipeline.triton.batches import Batches, OpenBatches, Take, kind_of
from tests.conftest import SHAPES
from tests.waiting import wait_for

WAIT_S = 10


@dataclass
class Named:
    name: str
    kind: str


class Runner:
    """A runner that records each batch and blocks until ``go`` is set."""

    def __init__(self) -> None:
        self.batches: list[str] = []
        self.began, self.go, self.all_done = (
            threading.Event(),
            threading.Event(),
            threading.Semaphore(0),
        )

    def __call__(self, jobs: Sequence[Named], take: Take[Named]) -> None:
        self.take = take
        self.began.set()
        assert self.go.wait(WAIT_S)
        self.batches.append("".join(job.name for job in jobs))
        self.all_done.release()


def test_jobs_of_the_same_kind_run_together() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 5)
    batches.submit(Named("a", "small"))
    assert runner.began.wait(WAIT_S)
    for name, kind in (("b", "small"), ("c", "large"), ("d", "small"), ("e", "large")):
        batches.submit(Named(name, kind))
    runner.go.set()
    for _ in range(3):
        assert runner.all_done.acquire(timeout=WAIT_S)
    assert runner.batches == ["a", "bd", "ce"]
    assert batches.close() == []


def test_batch_and_queue_never_exceed_the_max_size() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 2)
    batches.submit(Named("a", ""))
    assert runner.began.wait(WAIT_S)
    batches.submit(Named("b", ""))
    full = threading.Thread(target=lambda: [batches.submit(Named(name, "")) for name in "cd"])
    full.start()
    full.join(0.2)
    assert full.is_alive(), "the queue is the caller's"
    runner.go.set()
    full.join(WAIT_S)
    assert not full.is_alive()
    for _ in range(3):
        assert runner.all_done.acquire(timeout=WAIT_S)
    assert runner.batches == ["a", "bc", "d"]
    batches.close()


@pytest.mark.parametrize(
    ("waiting", "running", "joined", "left"),
    [
        ("s", 1, "s", ""),
        ("sss", 1, "ss", "s"),
        ("ss", 2, "s", "s"),
        ("ss", 3, "", "ss"),
        ("ls", 1, "", "ls"),
        ("sls", 1, "s", "ls"),
        ("", 1, "", ""),
    ],
)
def test_next_jobs_of_the_kind_join_while_seats_are_free(
    waiting: str, running: int, joined: str, left: str
) -> None:
    """A job of another kind (l) is not overtaken without end: no one joins past it."""
    runner = Runner()
    batches = OpenBatches(runner, 3)
    batches.submit(Named("a", "s"))
    assert runner.began.wait(WAIT_S)
    submitter = threading.Thread(
        target=lambda: [batches.submit(Named(kind, kind)) for kind in waiting]
    )
    submitter.start()
    wait_for(lambda: len(batches._waiting) == len(waiting))
    assert "".join(job.name for job in runner.take(running)) == joined
    assert "".join(job.name for job in batches._waiting) == left
    runner.go.set()
    submitter.join(WAIT_S)
    batches.close()


def test_a_job_that_joins_makes_space_for_another_submitter() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 2)
    batches.submit(Named("a", "s"))
    assert runner.began.wait(WAIT_S)
    submitter = threading.Thread(
        target=lambda: [batches.submit(Named(name, "s")) for name in "bc"], daemon=True
    )
    submitter.start()
    wait_for(lambda: len(batches._waiting) == 2)
    assert [job.name for job in runner.take(1)] == ["b"]
    submitter.join(WAIT_S)
    assert not submitter.is_alive()
    runner.go.set()
    batches.close()


def test_adapters_of_repositories_rendered_before_run_jobs_only() -> None:
    """They are copies in the repository, and no one joins their batches."""
    runs, done = list[str](), threading.Semaphore(0)

    def run(jobs: Sequence[Named]) -> None:
        runs.append("".join(job.name for job in jobs))
        done.release()

    for largest in (1, 2):
        batches = Batches(run, largest)
        batches.submit(Named("a", ""))
        assert done.acquire(timeout=WAIT_S)
        assert batches.close() == []
    assert runs == ["a", "a"]


def test_no_job_joins_after_close() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 3)
    batches.submit(Named("a", "s"))
    assert runner.began.wait(WAIT_S)
    batches.submit(left := Named("b", "s"))
    closed: list[list[Named]] = []
    closer = threading.Thread(target=lambda: closed.append(batches.close()))
    closer.start()
    wait_for(lambda: batches._closed)
    assert runner.take(1) == []
    runner.go.set()
    closer.join(WAIT_S)
    assert closed == [[left]]


def test_submit_runs_a_batch_of_one_before_it_returns() -> None:
    runner = Runner()
    runner.go.set()
    batches = OpenBatches(runner, 1)
    batches.submit(Named("a", ""))
    assert runner.batches == ["a"]
    assert runner.take(0) == []
    assert batches.close() == []


def test_close_waits_for_the_running_batch_and_returns_the_other_jobs() -> None:
    runner = Runner()
    batches = OpenBatches(runner, 3)
    batches.submit(Named("a", ""))
    assert runner.began.wait(WAIT_S)
    left = Named("b", "")
    batches.submit(left)
    threading.Timer(0.2, runner.go.set).start()
    assert batches.close() == [left]
    assert runner.batches == ["a"]


def test_an_unexpected_error_does_not_end_the_service(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def run(jobs: Sequence[Named], take: Take[Named]) -> None:
        if jobs[0].name == "a":
            raise ZeroDivisionError
        done.set()

    batches = OpenBatches(run, 2)
    with caplog.at_level(logging.ERROR):
        batches.submit(Named("a", "x"))
        batches.submit(Named("b", "y"))
        assert done.wait(WAIT_S)
    assert "a batch of 1 failed" in caplog.text
    batches.close()


@pytest.mark.parametrize(
    ("values", "alike"),
    [
        ({"seed": 2, "prompt": "y", "guidance_scale": 3.0, "flow_shift": 2.0, "fps": 8}, True),
        ({"num_inference_steps": 5, "step_cache": "1.5x"}, True),
        ({"num_frames": 9}, False),
        ({"width": 32}, False),
        ({"height": 32}, False),
        ({"guidance_scale": 1.0}, False),
        ({"lora": [{"name": "a"}]}, False),
    ],
)
def test_requests_batch_if_shape_loras_and_use_of_guidance_match(values: dict, alike: bool) -> None:
    loras = Loras(available=(LoraInfo(name="a"),))
    info = Checkpoint.open(SHAPES).info.model_copy(update={"loras": loras})
    first, other = (
        info.resolve(SamplingParams(**{"prompt": "x", **given})) for given in ({}, values)
    )
    assert (kind_of(first) == kind_of(other)) == alike
