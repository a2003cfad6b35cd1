"""Processes of a Triton under attack: which they are, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from cli.runtime.hangs import Watched
from cli.runtime.stubs import stubs
from cli.runtime.supervisor import SupervisedServer
from pipeline.client import VideoClient
from pipeline.errors import ServerError
from tests.waiting import comes_about, wait_for

SHARED_MEMORY = Path("/dev/shm")
# Processes and shared memory of other modules' servers, which live as long as the session.
OTHERS: set[int | str] = set()


def runs_in(server: Watched, stage: str) -> None:
    """Return once a job runs in ``stage``."""
    with VideoClient(server.grpc_url) as client:
        wait_for(lambda: bool(client.status()[stage]["jobs"]))


def stub(server: int, stage: str) -> int:
    """Return the process id of the stage's python stub; ``server`` is that of tritonserver."""
    return dict(stubs(server))[stage]


def rank(server: int) -> int:
    """Return the process id of the server's only rank."""
    (found,) = psutil.Process(stub(server, "dit")).children()
    return found.pid


def ours() -> list[psutil.Process]:
    """Return the servers, stubs and ranks that this process has started."""
    words = ("tritonserver", "pipeline.ranks")
    family = psutil.Process().children(recursive=True)
    found = [child for child in family if any(word in " ".join(cmdline(child)) for word in words)]
    return [child for child in found if child.pid not in OTHERS]


def cmdline(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def regions() -> list[str]:
    """Return the shared memory of the servers that this process has started."""
    return [
        path.name
        for path in SHARED_MEMORY.glob(f"triton-video-{os.getpid()}-*")
        if path.name not in OTHERS
    ]


def settles(server: SupervisedServer, folder: Path) -> None:
    """Assert that what was replaced is removed in time, once a restart under way is over."""
    wait_for(lambda: is_up(server))
    comes_about(lambda: left(server.pid, folder) == [], 30)
    assert left(server.pid, folder) == []


def is_up(server: SupervisedServer) -> bool:
    with contextlib.suppress(AssertionError), VideoClient(server.grpc_url) as client:
        return server.pid > 0 and client.live()
    return False


def left(server: int, folder: Path) -> list[str]:
    """Return what does not belong to the running server, and which of its stubs are missing."""
    stages = ["control", "dit", "text_encoder", "tokenizer", "vae_decoder"]
    found = sorted(stage for stage, _ in stubs(server))
    wrong = [] if found == stages else [f"stubs {found}"]
    (work_dir, *others) = sorted(path.name for path in folder.glob("triton-video*"))
    alien = [name for name in regions() if not name.startswith(work_dir)]
    # Orphans are the keeper's, and so still among the descendants of this process.
    orphans = [
        child
        for child in ours()
        if "pipeline.ranks" in " ".join(cmdline(child)) and child.pid != rank(server)
    ]
    return [*wrong, *others, *alien, *map(str, orphans)]


def is_ready(client: VideoClient) -> bool:
    with contextlib.suppress(ServerError):
        client.require_ready()
        return True
    return False


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
