"""The stubs of a tritonserver of this machine: the processes of its python models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.ensemble.stages import DIT, VAE_DECODER
from pipeline.settings import StageSettings

STOPPED = "T"  # in /proc/PID/stat, after SIGSTOP
_ENDED = {None, "Z", "X"}
Named = tuple[str, int]  # a stage, and the process id of its stub


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


def state(pid: int) -> str | None:
    """Return the state of a process as a letter of /proc/PID/stat; None if it does not exist."""
    with contextlib.suppress(OSError):
        return _stat(Path(f"/proc/{pid}"))[0]
    return None


def holding_stages(settings: StageSettings | None) -> frozenset[str]:
    """Return the stages that answer requests after they have taken them.

    Triton fails the requests of a stub that dies within ``execute``, and never ends those that it
    took before: only a restart of the server does. ``settings`` None: the repository has none of
    our stages.
    """
    if settings is None:
        return frozenset()
    batching = settings.batching_max_size > 1
    return frozenset({VAE_DECODER.name, DIT.name} if batching else {VAE_DECODER.name})


class Losses:
    """Notices that a stub of ``stages`` has ended, whether or not the stage was loaded again."""

    def __init__(self, stages: frozenset[str]):
        self.stages = stages
        self._server: int | None = None
        self._stubs: list[Named] = []
        self._lost: frozenset[str] = frozenset()

    def of(self, server: int) -> str | None:
        """Return what died of the tritonserver ``server``, as a sentence; None if nothing has.

        Call it first when the server is ready: the stubs that run then are watched, and a stage
        without one is lost.
        """
        if server != self._server:
            self._server = server
            found = list(stubs(server))
            self._stubs = [each for each in found if each[0] in self.stages]
            # A stub that ended before this call is not found; the server has others.
            self._lost = self.stages - {stage for stage, _ in found} if found else frozenset()
        lost = {stage for stage, pid in self._stubs if state(pid) in _ENDED} | self._lost
        if not lost:
            return None
        return f"the stage {min(lost)} died, and with it the requests that it held"


def _stat(folder: Path) -> list[str]:
    """Return the fields of ``stat`` from the state on; the name before may contain anything."""
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
