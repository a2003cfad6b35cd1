"""Stubs that ended are noticed, on processes that stand for tritonserver and its stubs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.runtime.stubs import Losses, holding_stages, state, stubs
from pipeline.settings import StageSettings
from tests.waiting import wait_for

SLEEP = "import time; time.sleep(60)"


class Started:
    """Processes with the command line of a stub; this process is their tritonserver."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, stage: str) -> int:
        program = self._folder / stage / "1" / "model.py"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(SLEEP)
        self.running[stage] = subprocess.Popen([sys.executable, str(program)])
        pid = self.running[stage].pid
        wait_for(lambda: (stage, pid) in stubs(os.getpid()))
        return pid

    def kill(self, stage: str) -> None:
        self.running[stage].kill()
        # Not waited for: a killed stub stays a zombie.
        wait_for(lambda: state(self.running[stage].pid) == "Z")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for process in started.running.values():
        process.kill()
        process.wait()


def test_stages_that_hold_requests_follow_from_the_settings() -> None:
    settings = StageSettings(checkpoint="unused")
    assert holding_stages(None) == set()
    assert holding_stages(settings) == {"vae_decoder"}
    batching = settings.model_copy(update={"batching_max_size": 2})
    assert holding_stages(batching) == {"vae_decoder", "dit"}


def test_death_of_a_watched_stub_is_noticed_even_after_a_reload(started: Started) -> None:
    losses = Losses(frozenset({"vae_decoder"}))
    for stage in ("vae_decoder", "dit"):
        started.start(stage)
    assert losses.of(os.getpid()) is None
    started.kill("dit")
    assert losses.of(os.getpid()) is None, "it is not watched"
    killed = started.running["vae_decoder"]
    started.kill("vae_decoder")
    started.start("vae_decoder")
    assert losses.of(os.getpid()) == (
        "the stage vae_decoder died, and with it the requests that it held"
    )
    killed.wait()


def test_stage_that_died_before_the_first_check_is_lost(started: Started) -> None:
    losses = Losses(frozenset({"vae_decoder"}))
    for stage in ("vae_decoder", "dit"):
        started.start(stage)
    started.kill("vae_decoder")
    assert losses.of(os.getpid()) is not None
    assert losses.of(1) is None, "of a server in a container no stub is seen"


def test_stubs_of_a_new_server_are_watched_from_its_first_check_on(started: Started) -> None:
    losses = Losses(frozenset({"vae_decoder"}))
    assert losses.of(1) is None
    started.start("vae_decoder")
    assert losses.of(os.getpid()) is None
    started.kill("vae_decoder")
    assert losses.of(os.getpid()) is not None
    assert losses.of(1) is None, "a restarted server"
