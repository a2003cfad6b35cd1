"""The watcher of an embedded server, on a server that is made up; the real one is in
tests/e2e/test_serve.py.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cli.runtime import supervisor
from pipeline.errors import ServerError


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

    @property
    def pid(self) -> int:
        assert self.up.is_set(), "asked for the pid of a server that was stopped"
        return os.getpid()

    def __enter__(self) -> FakeServer:
        self.starts += 1
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


def test_exit_at_any_time_ends_the_thread(supervised):
    for _ in range(30):
        with supervised(FakeServer()) as running:
            pass
        assert not running._thread.is_alive()
