"""Notices when a tritonserver of this machine, or a stub of it, hangs. A stub that hangs is
killed here.
"""

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
from pipeline.ensemble.stages import STAGES
from pipeline.errors import ServerError

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 5.0
_STOPPED = "T"  # in /proc/PID/stat, after SIGSTOP
# stages that are one graph, whose results Triton may cache
_CACHED = {stage.name for stage in STAGES if stage.one_graph}
Named = tuple[str, int]  # a stage, and the process id of its stub


class Watched(Protocol):
    """A server that runs."""

    @property
    def pid(self) -> int: ...

    @property
    def grpc_url(self) -> str: ...


class HangWatch:
    """Watches one server from when it is ready until it ends. For one thread.

    A stub hangs when the ``control`` model gets no answer from it, or the kernel reports that it is
    stopped. One that only computes answers all the while, from a thread.
    """

    def __init__(self, server: Watched, hang_timeout_s: float):
        self._pid = server.pid
        self._hang_timeout_s = hang_timeout_s
        self._client = VideoClient(server.grpc_url)
        self._silent_since: dict[Named, float] = {}
        self._check_at = 0.0

    def close(self) -> None:
        self._client.close()

    def check(self) -> str | None:
        """Kill each stub that has hung for ``hang_timeout_s``; the reason why the server itself has
        to be restarted.

        Takes up to ten seconds when something hangs. Does nothing when called again soon.
        """
        if time.monotonic() < self._check_at:
            return None
        hung = self._hung(self._silent())
        self._check_at = time.monotonic() + min(LONGEST_PAUSE_S, self._hang_timeout_s / 4)
        for name, pid in hung:
            if pid == self._pid:
                return f"tritonserver has not answered for {self._hang_timeout_s:g} s"
            if name in _CACHED and len(self._stubs_of(name)) == 1:
                # Triton may have cached an empty result of it, which every later request would get.
                return f"the stage {name} has not answered for {self._hang_timeout_s:g} s"
            logger.error(
                "the stage %s has not answered for %g s; killing it", name, self._hang_timeout_s
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return None

    def _silent(self) -> set[Named]:
        """The stubs that do not answer now, or the server."""
        if not self._client.live():
            return {("tritonserver", self._pid)}
        # While a stage is loaded again there may be two: each has a separate time.
        found = set(stubs(self._pid))
        silent = {(stage, pid) for stage, pid in found if _state(pid) == _STOPPED}
        # Any other trouble is not silence, and is for those whose requests fail.
        with contextlib.suppress(ServerError):
            stages = self._client.stages()
            silent |= {(s, pid) for s, pid in found if stages.get(s) is StageFault.SILENT}
        return silent

    def _stubs_of(self, stage: str) -> list[int]:
        """Two while a stage that hangs has been loaded again already."""
        return [pid for name, pid in stubs(self._pid) if name == stage]

    def _hung(self, silent: Iterable[Named]) -> set[Named]:
        """Those of ``silent`` that have been so for too long."""
        now = time.monotonic()
        self._silent_since = {each: self._silent_since.get(each, now) for each in silent}
        longest = now - self._hang_timeout_s
        return {each for each, since in self._silent_since.items() if since <= longest}


def stubs(server: int) -> Iterator[Named]:
    """The stages whose stubs are children of the process ``server``, each with its stub's
    process id.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at.
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
    """State, parent and so on; before them is the name in parentheses, which may hold anything."""
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
