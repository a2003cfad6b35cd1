"""Start a module of the project in a separate process, in a new interpreter.

`pipeline.system.forks` starts it as a fork of a process that has imported what the module needs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Literal, Protocol

from pipeline.system.child_environment import child_environment
from pipeline.system.own_modules import FOLDER, command

Turn = Literal["first", "check", "later"]
"""When a fork server starts a module: as soon as its first import is done; after all imports; or
like that and with everything later waiting until this process has succeeded."""


class Process(Protocol):
    """A process that was started; the methods are those of `subprocess.Popen`."""

    @property
    def pid(self) -> int | None: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...


class Start(Protocol):
    """Starts a module with the arguments ``fds``, ``arguments``, and the process id of its parent.

    It inherits the descriptors ``fds``, and gets their numbers; ``stdout`` and ``stderr`` are
    descriptors too. Its standard input is empty, its environment that of a child that computes.
    """

    def __call__(
        self,
        module: str,
        *arguments: str,
        fds: Sequence[int] = (),
        stdout: int = 2,
        stderr: int = 2,
        turn: Turn = "later",
    ) -> Process: ...


def start_module(
    module: str,
    *arguments: str,
    fds: Sequence[int] = (),
    stdout: int = 2,
    stderr: int = 2,
    turn: Turn = "later",  # noqa: ARG001 - an interpreter does not wait for another
) -> Process:
    """Start ``module`` in a new interpreter; a `Start`."""
    return subprocess.Popen(
        command(module, *map(str, fds), *arguments, str(os.getpid())),
        pass_fds=fds,
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=child_environment(os.environ),
    )
