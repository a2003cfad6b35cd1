"""A real tritonserver on this machine for as long as a block runs, with nothing left of it afterwards."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.runtime.distribution import Distribution, find_distribution
from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.ports import HOST, Ports, free_ports, listens
from cli.runtime.server_command import arguments, checkout, environment
from cli.runtime.server_log import ServerLog
from pipeline.errors import ServerError

OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"  # OpenTelemetry's own variable
_POLL_S = 0.02
_PORT_ATTEMPTS = 5


def ignore(_: str) -> None:
    """Drops a progress message."""


class EmbeddedServer:
    """Starts tritonserver for a rendered model repository on entry and stops it on exit.

    Entry raises ServerError with one sentence; its ``details`` are the server's log. However the block or this process
    ends, the server's processes, shared memory and temporary files go with it: within moments, even after SIGKILL.
    """

    def __init__(
        self,
        repository: Path,
        *,
        on_progress: Callable[[str], None] = ignore,
        ready_timeout_s: float = 600,
        cache_bytes: int = 64 << 20,
        choose_ports: Callable[[], Ports] = free_ports,
        give_up: Callable[[], bool] = lambda: False,
    ):
        """`on_progress` is told such things as "loading dit (2/5)"; `cache_bytes` is the size of the response cache.

        A start ends early with a ServerError once `give_up` says so.
        """
        self._repository = repository.resolve()
        self._on_progress = on_progress
        self._ready_timeout_s = ready_timeout_s
        self._cache_bytes = cache_bytes
        self._choose_ports = choose_ports
        self._give_up = give_up
        self._ports: Ports | None = None
        self._log: ServerLog | None = None
        self._process: KeptProcess | None = None

    def __enter__(self) -> Self:
        models = _count_models(self._repository)
        distribution = find_distribution()
        for _ in range(_PORT_ATTEMPTS):
            with ExitStack() as undo:
                undo.callback(self.stop)
                self._ports = ports = self._choose_ports()
                process, log = self._launch(distribution, models, ports)
                if self._becomes_ready(process, log, ports):
                    undo.pop_all()
                    return self
        raise ServerError(f"tritonserver did not start: it lost its ports to other programs {_PORT_ATTEMPTS} times")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

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
        """The process id of tritonserver; its process group is called the same."""
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
        return _epitaph(self._process.exit_code, self._log.last_error)

    def stop(self) -> None:
        """Ends the server at once, requests in flight included. Does nothing if there is none."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    @property
    def _opened(self) -> Ports:
        assert self._ports is not None, "the server has not been started"
        return self._ports

    def _launch(self, distribution: Distribution, models: int, ports: Ports) -> tuple[KeptProcess, ServerLog]:
        name = f"triton-video-{os.getpid()}-{os.urandom(4).hex()}"
        work_dir = Path(tempfile.gettempdir(), name).resolve()
        argv = arguments(
            distribution, repository=self._repository, backends=work_dir / "backends", ports=ports,
            shm_prefix=f"{name}-", models=models, cache_bytes=self._cache_bytes,
            traces_to=os.environ.get(OTEL_ENDPOINT),
        )  # fmt: skip
        links = {f"backends/python/{path.name}": str(path) for path in distribution.backend_files}
        # A folder with nothing but libpython: its own may hold libraries that must not shadow the system's.
        links[f"lib/{distribution.libpython.name}"] = str(distribution.libpython.resolve())
        env = environment(distribution, libpython_folder=work_dir / "lib", inherited=os.environ)
        self._log = ServerLog(work_dir / "server.log", models)
        self._process = KeptProcess(Launch(argv, env, str(checkout() or "/"), str(work_dir), links, f"{name}-"))
        return self._process, self._log

    def _becomes_ready(self, process: KeptProcess, log: ServerLog, ports: Ports) -> bool:
        """True when all models are loaded and the ports open, False if a port was lost. Raises ServerError."""
        deadline = time.monotonic() + self._ready_timeout_s
        told = None
        # Asking the ports would not do: a program that took one of them might answer instead of the server.
        while process.pid is None or log.progress or not listens(process.pid, ports):
            process.wait(_POLL_S)
            ended = process.ended
            log.read()
            if log.progress not in (None, told):
                told = log.progress
                self._on_progress(str(told))
            if log.lost_port:
                return False
            if log.failure or ended:
                reason = log.failure or log.last_error or _epitaph(process.exit_code, None)
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())
            if self._give_up():
                raise ServerError("tritonserver did not start: it is wanted no more")
            if time.monotonic() > deadline:
                doing = f"still {log.progress}" if log.progress else "not ready"
                reason = f"{doing} after {self._ready_timeout_s:g} s"
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())
        return True


def _count_models(repository: Path) -> int:
    if not repository.is_dir():
        raise ServerError(f"tritonserver did not start: there is no model repository at {repository}")
    models = sum(1 for _ in repository.glob("*/config.pbtxt"))
    if not models:
        raise ServerError(f"tritonserver did not start: no folder in {repository} holds a model (a config.pbtxt)")
    return models


def _epitaph(exit_code: int | None, last_error: str | None) -> str:
    if exit_code is None:
        how = "tritonserver was stopped from outside"
    elif exit_code == -signal.SIGKILL:
        how = "tritonserver was killed (SIGKILL; the kernel does so when memory runs out)"
    elif exit_code < 0:
        how = f"tritonserver was ended by {signal.Signals(-exit_code).name}"
    else:
        how = f"tritonserver ended with exit code {exit_code}"
    return f"{how}: {last_error}" if last_error else how
