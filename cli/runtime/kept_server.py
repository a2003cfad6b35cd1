"""What every Triton started for a run has in common: ports, a keeper, a log that says how it is."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.ports import HOST, Ports, free_ports
from cli.runtime.server_log import ServerLog
from pipeline.errors import ServerError

_POLL_S = 0.02
_PORT_ATTEMPTS = 5


def ignore(_: str) -> None:
    """Drops a progress message."""


class KeptServer(ABC):
    """Starts a Triton for a rendered model repository on entry and stops it on exit.

    Entry raises ServerError with one sentence; its ``details`` are the server's log. However the block or this process
    ends, the server's processes, shared memory and temporary files go with it: within moments, even after SIGKILL.
    """

    def __init__(
        self,
        repository: Path,
        *,
        on_progress: Callable[[str], None] = ignore,
        ready_timeout_s: float = 600,
        choose_ports: Callable[[], Ports] = free_ports,
        give_up: Callable[[], bool] = lambda: False,
    ):
        """`on_progress` is told such things as "loading dit (2/5)". A start ends early once `give_up` says so."""
        self._repository = repository.resolve()
        self._on_progress = on_progress
        self._ready_timeout_s = ready_timeout_s
        self._choose_ports = choose_ports
        self._give_up = give_up
        self._ports: Ports | None = None
        self._log: ServerLog | None = None
        self._process: KeptProcess | None = None

    def __enter__(self) -> Self:
        models = count_models(self._repository)
        for _ in range(_PORT_ATTEMPTS):
            with ExitStack() as undo:
                undo.callback(self.stop)
                self._ports = ports = self._choose_ports()
                launch = self._launch(models, ports)
                self._log = log = ServerLog(Path(launch.work_dir, "server.log"), models)
                self._process = process = KeptProcess(launch)
                if self._becomes_ready(process, log, ports):
                    undo.pop_all()
                    return self
        raise ServerError(f"tritonserver did not start: it lost its ports to other programs {_PORT_ATTEMPTS} times")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self, models: int, ports: Ports) -> Launch:
        """What to run. Raises ServerError where something that it takes is missing."""

    @abstractmethod
    def _listens(self, process: KeptProcess, log: ServerLog, ports: Ports) -> bool:
        """Whether this very server, and no other program, is open at its ports."""

    def _epitaph(self, exit_code: int | None, log: ServerLog) -> str:
        """A sentence on a server that ended."""
        if exit_code is None:
            how = "tritonserver was stopped from outside"
        elif exit_code == -signal.SIGKILL:
            how = "tritonserver was killed (SIGKILL; the kernel does so when memory runs out)"
        elif exit_code < 0:
            how = f"tritonserver was ended by {signal.Signals(-exit_code).name}"
        else:
            how = f"tritonserver ended with exit code {exit_code}"
        return f"{how}: {log.last_error}" if log.last_error else how

    @property
    def grpc_url(self) -> str:
        """``host:port``, as Triton's gRPC clients want it."""
        return f"{HOST}:{self._opened.grpc}"

    @property
    def http_url(self) -> str:
        """``host:port``, as Triton's HTTP clients want it."""
        return f"{HOST}:{self._opened.http}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus would look."""
        return f"http://{HOST}:{self._opened.metrics}/metrics"

    @property
    def log_path(self) -> Path:
        """All that the server and its models print. Removed when the server stops."""
        assert self._log is not None, "the server has not been started"
        return self._log.path

    @property
    def pid(self) -> int:
        """The process id of what the keeper holds; its process group is called the same."""
        assert self._process is not None, "the server is not running"
        assert self._process.pid is not None
        return self._process.pid

    def died(self) -> str | None:
        """A sentence on why the server is gone, or None while it runs."""
        if self._process is None or self._log is None:
            return "tritonserver was stopped"
        self._process.wait(0)
        if not self._process.ended:
            return None
        self._log.read()
        return self._epitaph(self._process.exit_code, self._log)

    def stop(self) -> None:
        """Ends the server at once, requests in flight included. Does nothing if there is none."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    @property
    def _opened(self) -> Ports:
        assert self._ports is not None, "the server has not been started"
        return self._ports

    def _becomes_ready(self, process: KeptProcess, log: ServerLog, ports: Ports) -> bool:
        """True when all models are loaded and the ports open, False if a port was lost. Raises ServerError."""
        deadline = time.monotonic() + self._ready_timeout_s
        told = None
        while process.pid is None or log.progress or not self._listens(process, log, ports):
            process.wait(_POLL_S)
            ended = process.ended
            log.read()
            if log.progress not in (None, told):
                told = log.progress
                self._on_progress(str(told))
            if log.lost_port:
                return False
            if log.failure or ended:
                reason = log.failure or log.last_error or self._epitaph(process.exit_code, log)
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())
            if self._give_up():
                raise ServerError("tritonserver did not start: it is wanted no more")
            if time.monotonic() > deadline:
                doing = f"still {log.progress}" if log.progress else "not ready"
                reason = f"{doing} after {self._ready_timeout_s:g} s"
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())
        return True


def count_models(repository: Path) -> int:
    """How many models a rendered repository holds. Raises ServerError where there are none."""
    if not repository.is_dir():
        raise ServerError(f"tritonserver did not start: there is no model repository at {repository}")
    models = sum(1 for _ in repository.glob("*/config.pbtxt"))
    if not models:
        raise ServerError(f"tritonserver did not start: no folder in {repository} holds a model (a config.pbtxt)")
    return models
