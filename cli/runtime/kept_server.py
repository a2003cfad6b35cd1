"""The base of every Triton that a command starts: sockets, a keeper, and a log with its state."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.runtime.endpoints import Sockets
from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.places import new_name, sockets, work_dir
from cli.runtime.server_log import ServerLog
from pipeline.errors import ServerError
from pipeline.settings import FILE_NAME, StageSettings

LINK = "repository"  # in the run's folder, to the model repository that is loaded
_POLL_S = 0.02
REPORT_S = 30.0
"""Seconds that a stage gets to report that its ranks did not start in time."""


def ignore(_: str) -> None:
    """Ignore a progress message."""


class KeptServer(ABC):
    """Starts a Triton for a rendered model repository on entry and stops it on exit.

    Entry raises ServerError; its ``details`` are the server's log. When the block or this process
    ends, even by SIGKILL, the server's processes, shared memory and temporary files are removed
    within moments.
    """

    def __init__(
        self,
        repository: Path,
        *,
        on_progress: Callable[[str], None] = ignore,
        startup_timeout_s: float | None = None,
        give_up: Callable[[], bool] = lambda: False,
    ):
        """``on_progress`` gets messages such as "loading dit (2/5)".

        ``startup_timeout_s`` None is that of the repository's stages, and some time for their
        report. A start ends early once ``give_up`` returns True.
        """
        self._repository = repository.resolve()
        self._on_progress = on_progress
        self._startup_timeout_s = startup_timeout_s
        self._give_up = give_up
        self._name = new_name()
        self._log: ServerLog | None = None
        self._process: KeptProcess | None = None

    def __enter__(self) -> Self:
        models = count_models(self._repository)
        self._log = ServerLog(work_dir(self._name) / "server.log", models)
        self._process = KeptProcess(self._launch(models))
        try:
            self._wait_until_ready(self._process, self._log)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def repository(self) -> Path:
        """The model repository that the server serves, or will after the next `restart`."""
        return self._repository

    @repository.setter
    def repository(self, repository: Path) -> None:
        self._repository = repository.resolve()
        link = work_dir(self._name) / LINK
        if link.is_symlink():
            other = link.with_name(f"{LINK}-next")
            other.symlink_to(self._repository)
            other.replace(link)

    def restart(self) -> None:
        """Restart the server at the same sockets, whether it runs, hangs or has ended.

        After a ServerError it may be called again.
        """
        if self._process is None or self._process.closed:
            self.stop()
            self.__enter__()
            return
        self._log = ServerLog(self.log_path, count_models(self._repository))
        self._process.again()
        self._wait_until_ready(self._process, self._log)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self, models: int) -> Launch:
        """Return what to run. Raises ServerError if something is not installed."""

    def _reason_of_end(self, exit_code: int | None, log: ServerLog) -> str:
        """Return why the server ended, as a sentence."""
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
    def sockets(self) -> Sockets:
        """Where the server listens; the same for the lifetime of this object."""
        return sockets(self._name)

    @property
    def grpc_url(self) -> str:
        """``unix:PATH``, a target for Triton's gRPC clients."""
        return self.sockets.grpc_url

    @property
    def log_path(self) -> Path:
        """The output of the server and its models; removed when the server stops."""
        assert self._log is not None, "the server has not been started"
        return self._log.path

    @property
    def pid(self) -> int:
        """The process id of the keeper's child, which is also its process group."""
        assert self._process is not None, "the server is not running"
        assert self._process.pid is not None
        return self._process.pid

    def died(self) -> str | None:
        """Return why the server ended, as a sentence; None while it runs."""
        if self._process is None or self._log is None:
            return "tritonserver was stopped"
        self._process.wait(0)
        if not self._process.ended:
            return None
        self._log.read()
        return self._reason_of_end(self._process.exit_code, self._log)

    def stop(self) -> None:
        """End the server at once, with requests in flight. Does nothing if none runs."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def _wait_until_ready(self, process: KeptProcess, log: ServerLog) -> None:
        """Wait until all models are loaded and the sockets answer. Raises ServerError."""
        timeout_s = self._startup_timeout_s
        if timeout_s is None:
            timeout_s = startup_timeout_of(self._repository) + REPORT_S
        deadline = time.monotonic() + timeout_s
        reported = None
        while process.pid is None or log.progress or not self.sockets.answer():
            process.wait(_POLL_S)
            ended = process.ended
            if process.pid is not None:
                log.read()
            if log.progress not in (None, reported):
                reported = log.progress
                self._on_progress(str(reported))
            if log.failure or ended:
                reason = (
                    log.failure or log.last_error or self._reason_of_end(process.exit_code, log)
                )
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())
            if self._give_up():
                raise ServerError("tritonserver did not start: the start was cancelled")
            if time.monotonic() > deadline:
                reason = f"{log.waiting or 'not ready'} after {timeout_s:g} s"
                if log.waiting:
                    reason += "; --startup-timeout-s allows more"
                raise ServerError(f"tritonserver did not start: {reason}", details=log.text())


def settings_in(repository: Path) -> StageSettings | None:
    """Return the settings of the stages of a repository, or None if it has none of our stages.

    Raises ``CheckpointError`` for an invalid stage description.
    """
    for path in repository.glob(f"*/1/{FILE_NAME}"):
        return StageSettings.load(path.parent)
    return None


def startup_timeout_of(repository: Path) -> float:
    """Return the startup timeout of the stages of a repository, or the default.

    Raises ``CheckpointError`` for an invalid stage description.
    """
    settings = settings_in(repository)
    return (
        settings.startup_timeout_s
        if settings
        else StageSettings.model_fields["startup_timeout_s"].default
    )


def count_models(repository: Path) -> int:
    """Return the number of models in a repository. Raises ServerError if there are none."""
    if not repository.is_dir():
        raise ServerError(
            f"tritonserver did not start: there is no model repository at {repository}"
        )
    models = sum(1 for _ in repository.glob("*/config.pbtxt"))
    if not models:
        raise ServerError(
            f"tritonserver did not start: no folder in {repository} contains a model "
            "(a config.pbtxt)"
        )
    return models
