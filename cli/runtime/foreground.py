"""A tritonserver in the foreground: what it prints is printed, and it ends with this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from cli.runtime.embedded import launch
from cli.runtime.keeper import end_processes, make_work_dir, remove_files, start
from cli.runtime.kept_server import count_models
from cli.runtime.ports import Ports


def run(repository: Path, ports: Ports, host: str, *, until_stdin_ends: bool) -> int:
    """Serves until the server ends, whose exit code this is, or a signal comes.

    ``until_stdin_ends``: or standard input ends, as that of a container does when nobody is at its other end any more.
    Raises ServerError where something is missing.
    """
    command = launch(repository, count_models(repository), ports, host=host)
    server = 0
    try:
        make_work_dir(command)
        server = start(command, None)
        if until_stdin_ends:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        _, status = os.waitpid(server, 0)
        return os.waitstatus_to_exitcode(status)
    finally:
        end_processes(server)
        remove_files(command)


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
