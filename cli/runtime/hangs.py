"""Detects that a tritonserver of this machine, or one of its stubs, hangs; kills hung stubs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from pipeline.client import StageFault, VideoClient
from pipeline.ensemble.stages import DIT, STAGES
from pipeline.errors import ServerError

logger = logging.getLogger(__name__)

MAX_PAUSE_S = 5.0
_STOPPED = "T"  # in /proc/PID/stat, after SIGSTOP
# stages that are one graph, whose results Triton may cache
_CACHED = {stage.name for stage in STAGES if stage.one_graph}
Named = tuple[str, int]  # a stage, and the process id of its stub


class Watched(Protocol):
    """A running server."""

    @property
    def pid(self) -> int: ...

    @property
    def grpc_url(self) -> str: ...


class HangWatch:
    """Watches one server from when it is ready until it ends. For one thread.

    A stub hangs when it does not answer the ``control`` model, or the kernel reports that it is
    stopped. A busy stub still answers, from a thread.
    """

    def __init__(self, server: Watched, hang_timeout_s: float, *, batching: bool = False):
        """``batching``: ``dit`` takes requests that it runs later, in batches. Triton never ends
        those of a stub that died, so that the server has to be restarted with it.
        """
        self._pid = server.pid
        self._batching = batching
        self._dit = set[int]()
        self._hang_timeout_s = hang_timeout_s
        self._client = VideoClient(server.grpc_url)
        self._silent_since: dict[Named, float] = {}
        self._check_at = 0.0

    def close(self) -> None:
        self._client.close()

    def check(self) -> str | None:
        """Kill each stub that has hung for ``hang_timeout_s``.

        Returns why the whole server has to be restarted, or None. Takes up to ten seconds if
        something hangs, and does nothing if called again soon.
        """
        if time.monotonic() < self._check_at:
            return None
        if self._batching and self._lost():
            return f"the stage {DIT.name} died, and with it the requests that it held"
        hung = self._hung(self._silent())
        self._check_at = time.monotonic() + min(MAX_PAUSE_S, self._hang_timeout_s / 4)
        for name, pid in hung:
            if pid == self._pid:
                return f"tritonserver has not answered for {self._hang_timeout_s:g} s"
            # Triton may have cached an empty result, which every later request would get.
            spoiled = name in _CACHED and len(self._stubs_of(name)) == 1
            if spoiled or (self._batching and name == DIT.name):
                return f"the stage {name} has not answered for {self._hang_timeout_s:g} s"
            logger.error(
                "the stage %s has not answered for %g s; killing it", name, self._hang_timeout_s
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return None

    def _lost(self) -> bool:
        """Return whether a stub of ``dit`` has ended, which had one at first."""
        before, self._dit = self._dit, set(self._stubs_of(DIT.name))
        return not self._dit or not before <= self._dit

    def _silent(self) -> set[Named]:
        """Return the stubs that do not answer now, or the server."""
        if not self._client.live():
            return {("tritonserver", self._pid)}
        # While a stage is reloaded there may be two stubs, each with a separate time.
        found = set(stubs(self._pid))
        silent = {(stage, pid) for stage, pid in found if _state(pid) == _STOPPED}
        # Other errors are not hangs, and are reported by the requests that fail.
        with contextlib.suppress(ServerError):
            stages = self._client.stages()
            silent |= {(s, pid) for s, pid in found if stages.get(s) is StageFault.SILENT}
        return silent

    def _stubs_of(self, stage: str) -> list[int]:
        """Return the stubs of a stage: two after a hung stage has been reloaded."""
        return [pid for name, pid in stubs(self._pid) if name == stage]

    def _hung(self, silent: Iterable[Named]) -> set[Named]:
        """Return those of ``silent`` that have not answered for too long."""
        now = time.monotonic()
        self._silent_since = {each: self._silent_since.get(each, now) for each in silent}
        longest = now - self._hang_timeout_s
        return {each for each, since in self._silent_since.items() if since <= longest}


def stubs(server: int) -> Iterator[Named]:
    """Yield the stage and process id of each stub that is a child of the process ``server``."""
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end during these calls.
        with contextlib.suppress(OSError):
            if _stat(folder)[1] != str(server):
                continue
            # "triton_python_backend_stub FOLDER/STAGE/1/model.py ..."
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if len(arguments) > 1 and arguments[1].endswith(b"/model.py"):
                yield Path(os.fsdecode(arguments[1])).parts[-3], int(folder.name)


def _state(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        return _stat(Path(f"/proc/{pid}"))[0]
    return None


def _stat(folder: Path) -> list[str]:
    """Return the fields of ``stat`` from the state on; the name before may contain anything."""
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
