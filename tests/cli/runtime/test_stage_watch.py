"""A stage that dies or hangs is reported, and one that answers or still loads is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runtime import stage_watch
from cli.runtime.stage_watch import StageWatch
from pipeline.triton import control
from pipeline.triton.control import ControlListener, JobRegistry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silent(tmp_path: Path, monkeypatch) -> Iterator[str]:
    """A stage whose process is stopped: the kernel takes connections, and nothing answers."""
    monkeypatch.setattr(control, "TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "dit"))
        stopped.listen()
        yield "dit"


def test_watch_is_quiet_before_stages_load(tmp_path, clock):
    watch = StageWatch(tmp_path / "missing", lambda: False, clock=clock)
    clock.now = 1e6
    assert watch.trouble() is None


def test_answering_stage_is_not_reported(tmp_path, clock):
    listener = ControlListener(str(tmp_path / "dit"), JobRegistry())
    watch = StageWatch(tmp_path, lambda: True, clock=clock)
    for clock.now in (0.0, 100.0, 200.0):
        assert watch.trouble() is None
    listener.close()


def test_silent_stage_is_reported_after_the_timeout(tmp_path, clock, silent):
    watch = StageWatch(tmp_path, lambda: True, hang_s=60, clock=clock)
    assert watch.trouble() is None
    clock.now = 59.0
    assert watch.trouble() is None
    clock.now = 61.0
    assert watch.trouble() == f"the stage {silent} hangs: no answer for 61 s"
    assert watch.trouble() is None, "it starts afresh"


def test_a_dead_stage_is_reported_sooner(tmp_path, clock):
    listener = ControlListener(str(tmp_path / "dit"), JobRegistry())
    watch = StageWatch(tmp_path, lambda: True, clock=clock)
    assert watch.trouble() is None
    listener.close()
    clock.now = stage_watch.DEAD_S - 1
    assert watch.trouble() is None, "a server whose model cannot be loaded ends by itself"
    clock.now = stage_watch.DEAD_S + 1
    assert watch.trouble() == "the stage dit died"


def test_a_server_that_answered_once_hangs(tmp_path, clock):
    answers = True
    watch = StageWatch(tmp_path, lambda: answers, hang_s=60, clock=clock)
    assert watch.trouble() is None
    answers = False
    clock.now = 61.0
    assert watch.trouble() == "tritonserver hangs: no answer for 61 s"
