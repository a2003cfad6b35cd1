"""Triton in a container, and the container that prepares its model repository."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cli.runtime.container_command import Container
from cli.runtime.keeper import Launch
from cli.runtime.kept_process import KeptProcess
from cli.runtime.kept_server import KeptServer
from cli.runtime.places import new_name, work_dir
from cli.runtime.server_log import ServerLog
from export.cache import open_cache
from pipeline import errors
from pipeline.errors import OutputError, ServerError, TritonVideoError

STOP_S = 20.0  # container engines are slow
GRACE_S = 5.0
_ATTEMPTS = 3
_POLL_S = 0.1
_KILLED = 128 + 9
# Errors of the engine, and of programs in the container that ended before Triton started.
_REASON = re.compile(
    r"^(?:docker: |Error: |triton-video: |python3?: |\[\w+ +tini.*\] )(.*?)\.?$", re.MULTILINE
)


class ContainerServer(KeptServer):
    """A Triton in a container.

    The keeper runs the engine's client, and removes the container at the end.
    """

    def __init__(self, repository: Path, container: Container, **options: Any):
        super().__init__(repository, **options)
        self._container = container

    def died(self) -> str | None:
        # A container's connections break before the engine's client ends.
        if self._process and not self._process.ended and self._is_silent():
            deadline = time.monotonic() + GRACE_S
            while not self._process.ended and time.monotonic() < deadline:
                self._process.wait(_POLL_S)
        return super().died()

    def _is_silent(self) -> bool:
        # Several attempts: the sockets of a killed process close one by one.
        for _ in range(_ATTEMPTS):
            if not self.sockets.answer():
                return True
            time.sleep(_POLL_S)
        return False

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_S)

    def _launch(self, models: int) -> Launch:  # noqa: ARG002 - counted in there
        argv = self._container.serving(self._name, str(self._repository), self.sockets)
        return _launch(self._name, self._container, argv)

    def _reason_of_end(self, exit_code: int | None, log: ServerLog) -> str:
        return explain(exit_code, log.text(), log.last_error)


def prepare(container: Container, request: str, on_progress: Callable[[str], None]) -> Path:
    """Prepare the model repository in a separate container, and return its path in the cache.

    Raises the error of the program in the container, or ServerError if the container did not run.
    """
    open_cache(container.cache)
    name = new_name()
    launch = _launch(name, container, container.preparing(name, request))
    process = KeptProcess(launch)
    try:
        repository = None
        for message in _messages(process, Path(launch.work_dir, "server.log")):
            if "progress" in message:
                on_progress(message["progress"])
            if "error" in message:
                raise _error(message)
            repository = message.get("repository", repository)
        if repository is None:
            text = _read(Path(launch.work_dir, "server.log"))
            raise ServerError(
                f"no repository was made: {explain(process.exit_code, text)}", details=text
            )
        return Path(repository)
    finally:
        process.stop(STOP_S)


def explain(exit_code: int | None, text: str, last_error: str | None = None) -> str:
    """Return why a container ended, from its exit code and output."""
    found = _REASON.findall(text)
    reason = last_error or (found[-1] if found else None)
    if exit_code is None:
        how = "the container was stopped from outside"
    elif exit_code in (_KILLED, -9):
        how = "the container was killed (SIGKILL; the kernel does so when memory runs out)"
    else:
        how = f"the container ended with exit code {exit_code}"
        reason = reason or (text.strip().splitlines() or [None])[-1]
    return f"{how}: {reason}" if reason else how


def _launch(name: str, container: Container, argv: list[str]) -> Launch:
    engine = (container.engine.program, name)
    return Launch(
        argv, container.client_environment(), "/", str(work_dir(name)), {}, ["sockets"],
        f"{name}-", engine,
    )  # fmt: skip


def _messages(process: KeptProcess, log: Path) -> Iterator[dict[str, str]]:
    """Yield the messages of the program in a container until it ends; skip other lines."""
    taken = 0
    while True:
        ended = process.ended
        lines = _read(log).split("\n")[:-1]
        for line in lines[taken:]:
            if line.startswith("{"):
                yield json.loads(line)
        taken = len(lines)
        if ended:
            return
        process.wait(_POLL_S)


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def _error(message: dict[str, str]) -> TritonVideoError:
    kind = getattr(errors, message["type"], None)
    if (
        isinstance(kind, type)
        and issubclass(kind, TritonVideoError)
        and kind is not errors.InputError
    ):
        return kind(message["error"])
    return OutputError(f"the model repository cannot be prepared: {message['error']}")
