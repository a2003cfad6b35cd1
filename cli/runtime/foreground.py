"""A tritonserver in the foreground: it shares this process's output and ends with it."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from pathlib import Path

from cli.runtime.embedded import launch
from cli.runtime.endpoints import Endpoint, Ports, Sockets
from cli.runtime.kept_process import KeptProcess
from cli.runtime.kept_server import count_models, settings_in
from cli.runtime.places import new_name, work_dir
from cli.runtime.stage_watch import DEAD_S, StageWatch
from cli.runtime.stubs import Losses, holding_stages
from pipeline.triton.control_token import DIGEST_VARIABLE, digest

logger = logging.getLogger(__name__)

CHECK_S = 1.0


def run(
    repository: Path,
    endpoint: Endpoint,
    token: str | None,
    hang_timeout_s: float,
    *,
    until_stdin_ends: bool,
) -> int:
    """Serve until a signal, or until the server ends by itself; then return its exit code.

    The server is restarted when a stage does not answer for ``hang_timeout_s``, when one dies that
    held requests, and on TCP, where model control is off, when any stage dies. ``token`` is
    required by the ``control`` model. With ``until_stdin_ends`` this process also ends with its
    standard input, which for a container ends when the other side is closed. Raises ServerError if
    a package is missing, and CheckpointError for an invalid stage description.
    """
    name = new_name()
    variables = {DIGEST_VARIABLE: digest(token)} if token else {}
    command = launch(name, repository, count_models(repository), endpoint, variables=variables)
    command.log = False
    if until_stdin_ends:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    # Where model control is on, the client of this server reloads a dead stage.
    dead_s = DEAD_S if isinstance(endpoint, Ports) else math.inf
    losses = Losses(holding_stages(settings_in(repository)))
    process = KeptProcess(command)
    watch = StageWatch(
        work_dir(name) / "control",
        endpoint.answer,
        hang_s=hang_timeout_s,
        dead_s=dead_s,
        lost=lambda: None if process.pid is None else losses.of(process.pid),
    )
    try:
        while not process.ended:
            process.wait(CHECK_S)
            if trouble := watch.trouble():
                logger.error("%s; restarting tritonserver", trouble)
                if isinstance(endpoint, Sockets):
                    endpoint.clear()
                process.again()
        return -signal.SIGKILL if process.exit_code is None else process.exit_code
    finally:
        process.stop()


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
