"""The watcher of an embedded server, on a server that is made up; the real one is in
tests/e2e/test_serve.py.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cli.runtime import supervisor
from pipeline.errors import ServerError
from tests.waiting import wait_for


class FakeWatch:
    """Reports a hang when the fake server is hung."""

    def __init__(self, server: FakeServer, hang_timeout_s: float, holding: frozenset[str]) -> None:
        assert not holding
        self._server = server

    def check(self) -> str | None:
        return self._server.hang

    def close(self) -> None: ...


class FakeServer:
    """Fails ``failures`` restarts; dies on request."""

    def __init__(self, failures: int = 0) -> None:
        self.starts, self.failures = 0, failures
        self.up = threading.Event()
        self.death: str | None = None
        self.hang: str | None = None
        self.repository, self.grpc_url = Path("torch"), "unused"
        self.served: list[Path] = []

    @property
    def pid(self) -> int:
        assert self.up.is_set(), "asked for the pid of a server that was stopped"
        return os.getpid()

    def __enter__(self) -> FakeServer:
        self.starts += 1
        self.served.append(self.repository)
        if 1 < self.starts <= 1 + self.failures:
            raise ServerError("no luck")
        self.death = self.hang = None
        self.up.set()
        return self

    def restart(self) -> None:
        self.stop()
        self.__enter__()

    def died(self) -> str | None:
        return self.death

    def stop(self) -> None:
        self.up.clear()


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch):
    def make(server: FakeServer) -> supervisor.SupervisedServer:
        monkeypatch.setattr(supervisor, "EmbeddedServer", lambda *args, **options: server)
        monkeypatch.setattr(supervisor, "HangWatch", FakeWatch)
        monkeypatch.setattr(supervisor, "CHECK_S", 0.01)
        monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.01)
        return supervisor.SupervisedServer(Path("unused"))

    return make


@pytest.mark.parametrize("fault", ["death", "hang"])
@pytest.mark.parametrize("failures", [0, 3])
def test_dead_or_hung_server_is_restarted_until_it_runs(supervised, failures, fault):
    server = FakeServer(failures)
    with supervised(server):
        server.up.clear()
        setattr(server, fault, "it has a reason")
        assert server.up.wait(10)
    assert server.starts == 2 + failures
    assert not server.up.is_set()


def test_failed_warm_up_is_a_failed_start(supervised, monkeypatch):
    def fail(url: str, repository: Path) -> None:
        raise ServerError(f"no memory for {repository} at {url}")

    monkeypatch.setattr(supervisor, "warm_up", fail)
    server = FakeServer()
    with pytest.raises(ServerError, match="no memory for torch at unused"), supervised(server):
        pytest.fail("it started")
    assert not server.up.is_set()


def test_exit_at_any_time_ends_the_thread(supervised):
    for _ in range(30):
        with supervised(FakeServer()) as running:
            pass
        assert not running._thread.is_alive()


class FakePause:
    """Counts the attempts to begin, which fail until ``idle``."""

    def __init__(self) -> None:
        self.begun, self.idle, self.ended = 0, False, threading.Event()

    def begin(self) -> bool:
        self.begun += 1
        return self.idle

    def end(self) -> None:
        self.ended.set()


def test_switch_waits_for_a_pause_and_serves_the_other_repository(supervised):
    server, pause = FakeServer(), FakePause()
    with supervised(server) as running:
        running.switch(Path("graphs"), pause)
        wait_for(lambda: pause.begun > 3)
        assert server.served == [Path("torch")]
        pause.idle = True
        assert pause.ended.wait(10)
        server.death = "it died later"
        wait_for(lambda: len(server.served) == 3)
    assert server.served == [Path("torch"), Path("graphs"), Path("graphs")]


def test_repository_that_does_not_load_is_left_again(supervised):
    server, pause = FakeServer(failures=1), FakePause()
    pause.idle = True
    with supervised(server) as running:
        running.switch(Path("graphs"), pause)
        assert pause.ended.wait(10)
        server.death = "it failed to start"
        wait_for(lambda: len(server.served) == 3)
        wait_for(lambda: server.up.is_set())
    assert server.served == [Path("torch"), Path("graphs"), Path("torch")]


def test_server_is_watched_before_anything_is_made_with_it(
    supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that dies in the first request must not be missed."""
    order: list[str] = []

    class Noting(FakeWatch):
        def __init__(self, *arguments: Any) -> None:
            order.append("watched")
            super().__init__(*arguments)

    server = FakeServer()
    watching = supervised(server)
    monkeypatch.setattr(supervisor, "HangWatch", Noting)
    monkeypatch.setattr(supervisor, "warm_up", lambda *_: order.append("used"))
    with watching:
        assert order == ["watched", "used"]
        server.death = "it died"
        wait_for(lambda: order == ["watched", "used", "watched"])
