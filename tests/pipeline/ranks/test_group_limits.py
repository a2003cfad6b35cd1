"""The timeouts of a group of ranks hold, with fake ranks and a clock that the test advances."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CancelledError, GenerationError
from pipeline.families import SamplingParams
from pipeline.parallel.layout import Layout
from pipeline.ranks import group as module
from pipeline.ranks.group import RankGroup, Task, Timeouts
from pipeline.ranks.messages import Alive, Done, Encode, Ready, Run, Setup, Step, Verdict
from pipeline.ranks.process import RankError, RankFailedError, RankLostError
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import settings

REQUEST = Checkpoint.open(SHAPES).info.resolve(SamplingParams(prompt="-"))
TIMEOUTS = Timeouts(startup=100, heartbeat=1e9, step=900)
LATENTS = np.ones((1, 2, 3), np.float32)


class Clock:
    """A clock that advances by ``tick`` seconds each time it is read."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


class FakeRank:
    """A rank that answers messages by ``script``, and closes as a process would."""

    script: Callable[[FakeRank, Any], None]
    made: list[FakeRank] = []

    def __init__(self, rank: int, rendezvous: int) -> None:
        self.rank, self.last_message_at, self.device = rank, 0.0, None
        self.ours, self.theirs = socket.socketpair()
        self.channel = SimpleNamespace(fileno=self.ours.fileno, waiting=self.waiting)
        self.queue: list[Any] = []
        self.late: Any = None
        self.sent: list[Any] = []
        self.dead: str | None = None
        FakeRank.made.append(self)

    def send(self, message: Any, arrays: Any = None) -> None:
        self.sent.append(message)
        type(self).script(self, message)

    def answer(self, message: Any, **arrays: np.ndarray) -> None:
        self.queue.append((message, arrays))
        self.theirs.send(b"x")

    def receive(self) -> Any:
        self.ours.recv(1)
        message, arrays = self.queue.pop(0)
        if isinstance(message, Exception):
            raise message
        return message, arrays

    def waiting(self) -> bool:
        """Return whether there is a message to read; a late message arrives at this moment."""
        if self.late is None:
            return False
        self.answer(self.late)
        self.late = None
        return True

    def killed(self) -> str | None:
        return self.dead

    def kill(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    time = SimpleNamespace(monotonic=clock.monotonic, sleep=lambda seconds: None)
    monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr(module, "POLL_S", 0.001)
    monkeypatch.setattr(module, "WATCH_S", 1e6)
    monkeypatch.setattr(module, "RankProcess", FakeRank)
    monkeypatch.setattr(FakeRank, "made", [])
    return clock


@contextlib.contextmanager
def group(
    script: Callable[[FakeRank, Any], None], ranks: int = 1, timeouts: Timeouts = TIMEOUTS
) -> Iterator[RankGroup]:
    FakeRank.script = staticmethod(script)
    made = RankGroup(settings(SHAPES, Layout(ulysses=ranks)), timeouts)
    try:
        yield made
    finally:
        made.close()


def task(before_step: Callable[[int], None] = lambda step: None) -> Task:
    return Task(REQUEST, {}, before_step)


def denoising(clock: Clock, steps: int, seconds: float) -> Callable[[FakeRank, Any], None]:
    """Return the script of a rank whose run has ``steps`` steps of ``seconds`` seconds each."""

    def script(rank: FakeRank, message: Any) -> None:
        match message:
            case Setup():
                rank.answer(Ready(device="cpu"))
            case Run():
                rank.answer(Step(steps={0: 0}))
            case Verdict():
                clock.now += seconds
                done = sum(isinstance(sent, Verdict) for sent in rank.sent)
                if done < steps:
                    rank.answer(Step(steps={0: done}))
                else:
                    rank.answer(Done(), **{"0": LATENTS})

    return script


def test_run_may_exceed_the_timeout_of_a_step(clock: Clock) -> None:
    seen: list[int] = []
    with group(denoising(clock, 5, 890)) as ranks:
        (made,) = ranks.run_batch([task(seen.append)])
        assert made is not None
        assert clock.now > 4000
        assert ranks.starts == 1
    np.testing.assert_array_equal(made, LATENTS)
    assert seen == [0, 1, 2, 3, 4]


def test_step_over_its_timeout_replaces_the_ranks(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        elif isinstance(message, Run):
            rank.answer(Step(steps={0: 0}))
        else:
            clock.tick = 100.0

    with group(script) as ranks:
        with pytest.raises(RankLostError, match="did not finish a step in time"):
            ranks.run_batch([task()])
        assert ranks.starts == 2
        assert len(FakeRank.made) == 2


def test_start_over_its_timeout_is_not_retried(clock: Clock) -> None:
    clock.tick = 10.0
    with (
        pytest.raises(RankLostError, match="rank 0, rank 1: still loading after 100 s"),
        group(lambda rank, message: None, ranks=2),
    ):
        pytest.fail("it started")
    assert len(FakeRank.made) == 2
    assert 100 < clock.now < 200


def test_next_request_retries_a_failed_start(clock: Clock) -> None:
    healthy = denoising(clock, 1, 1)
    with group(healthy) as ranks:
        FakeRank.script = staticmethod(lambda rank, message: rank.answer(RankLostError("gone")))
        for starts in (2, 2, 3):  # the first failure was of ranks that were ready
            with pytest.raises(RankLostError, match="gone"):
                ranks.run_batch([task()])
            assert ranks.starts == starts
        FakeRank.script = staticmethod(healthy)
        ranks.run_batch([task()])


def test_closed_group_is_not_restarted(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        else:
            ranks._closed.set()
            rank.answer(RankLostError("closed"))

    with group(script) as ranks:
        with pytest.raises(RankLostError, match="closed"):
            ranks.run_batch([task()])
        assert ranks.starts == 1


@pytest.mark.parametrize("unread", [False, True])
def test_rank_without_a_heartbeat_is_lost_unless_its_message_is_unread(
    clock: Clock, unread: bool
) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        elif isinstance(message, Run):
            clock.now += 16
            if rank.rank == 0:
                rank.answer(Done(), **{"0": LATENTS})
            elif unread:
                rank.late = Done()

    timeouts = Timeouts(startup=100, heartbeat=15, step=900)
    with group(script, 2, timeouts) as ranks:
        if unread:
            (made,) = ranks.run_batch([task()])
            np.testing.assert_array_equal(made, LATENTS)
        else:
            with pytest.raises(RankLostError, match=r"rank [01] has given no sign of life for "):
                ranks.run_batch([task()])


def test_rank_that_loads_may_send_nothing_until_the_startup_timeout(clock: Clock) -> None:
    def load(seconds: float) -> Callable[[FakeRank, Any], None]:
        def script(rank: FakeRank, message: Any) -> None:
            rank.answer(Alive())
            if rank.rank == 1:
                clock.now += seconds
                rank.answer(Ready(device="cpu"))
                FakeRank.made[0].answer(Ready(device="cpu"))

        return script

    timeouts = Timeouts(startup=100, heartbeat=15, step=900)
    with group(load(90), 2, timeouts) as ranks:
        assert ranks.alive == 2
    clock.tick = 1.0
    with (
        pytest.raises(RankLostError, match="rank 0: still loading after 100 s"),
        group(lambda rank, _: rank.answer(Alive()), timeouts=timeouts),
    ):
        pytest.fail("it started")


def test_ranks_have_the_startup_timeout_of_their_settings(clock: Clock) -> None:
    clock.tick = 1.0
    FakeRank.script = staticmethod(lambda rank, message: None)
    described = settings(SHAPES).model_copy(update={"startup_timeout_s": 7.0})
    with pytest.raises(RankLostError, match="still loading after 7 s"):
        RankGroup(described)
    assert 7 < clock.now < 20


def test_heartbeats_keep_a_slow_rank_alive(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        else:
            clock.now += 14
            rank.answer(Alive())
            rank.answer(Done(), **{"0": LATENTS})

    with group(script, timeouts=Timeouts(startup=100, heartbeat=15, step=900)) as ranks:
        for _ in range(3):
            ranks.run_batch([task()])


def test_stop_reaches_every_rank_and_its_error_is_the_outcome(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        match message:
            case Setup():
                rank.answer(Ready(device="cpu"))
            case Run():
                rank.answer(Step(steps={0: 0, 1: 0, 2: 0}))
            case Verdict():
                rank.answer(Done(errors={2: "too odd"}), **{"0": LATENTS})

    def stop(step: int) -> None:
        raise CancelledError("cancelled")

    with group(script) as ranks:
        first, second, third = ranks.run_batch([task(), task(stop), task()])
        verdicts = [sent for sent in FakeRank.made[0].sent if isinstance(sent, Verdict)]
    np.testing.assert_array_equal(first, LATENTS)
    assert isinstance(second, CancelledError)
    assert isinstance(third, GenerationError)
    assert str(third) == "too odd"
    assert verdicts == [Verdict(stop=frozenset({1}))]


def test_run_lasts_until_every_rank_is_done(clock: Clock) -> None:
    order: list[int] = []

    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        elif rank.rank == 0:
            rank.answer(Done(), **{"0": LATENTS})
            order.append(0)
        else:
            rank.answer(Alive())
            rank.answer(Done())
            order.append(1)

    with group(script, 2) as ranks:
        assert ranks.alive == 2
        (made,) = ranks.run_batch([task()])
        assert all(not rank.queue for rank in FakeRank.made)
    np.testing.assert_array_equal(made, LATENTS)
    assert order == [0, 1]


def test_results_of_ranks_that_end_at_once_are_all_read(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        else:
            rank.answer(Done(), **({"0": LATENTS} if rank.rank == 2 else {}))

    with group(script, 3) as ranks:
        (made,) = ranks.run_batch([task()])
    np.testing.assert_array_equal(made, LATENTS)


def test_encode_returns_the_arrays_of_any_rank(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        elif isinstance(message, Encode):
            if rank.rank == 1:
                rank.answer(Alive())
            rank.answer(Done(), **({"embeds": LATENTS} if rank.rank == 1 else {}))

    with group(script, 2) as ranks:
        assert list(ranks.encode({"ids": np.zeros((1, 2), np.int64)})) == ["embeds"]


def test_encode_has_the_timeout_of_a_step(clock: Clock) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        else:
            clock.tick = 100.0

    with group(script) as ranks, pytest.raises(RankLostError, match="did not encode a text in "):
        ranks.encode({})


@pytest.mark.parametrize("dead", [None, "rank 1 was killed by SIGKILL"])
def test_death_of_another_rank_is_reported_for_a_failed_collective(
    clock: Clock, dead: str | None
) -> None:
    def script(rank: FakeRank, message: Any) -> None:
        if isinstance(message, Setup):
            rank.answer(Ready(device="cpu"))
        elif rank.rank == 0:
            rank.answer(RankFailedError("rank 0: connection closed"))
            FakeRank.made[1].dead = dead
            clock.tick = 0.2

    with group(script, 2) as ranks:
        with pytest.raises(RankError) as caught:
            ranks.run_batch([task()])
        assert ranks.starts == 2
    assert isinstance(caught.value, RankLostError if dead else RankFailedError)
    assert str(caught.value) == (dead or "rank 0: connection closed")
