"""Names and folders of one run's server."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cli.runtime.endpoints import Sockets
from pipeline.ensemble.stages import STAGES
from pipeline.errors import ServerError

# A unix socket's path has at most 107 bytes; this is the longest that follows.
_LONGEST = 107 - len("/control/") - max(len(stage.name) for stage in STAGES)
# The python backend starts its stubs by a shell command that quotes no path.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
_ELSEWHERE = ("/tmp", "/var/tmp")  # noqa: S108 - where a private folder is made


def new_name() -> str:
    """A name that no other run has."""
    return f"triton-video-{os.getpid()}-{os.urandom(4).hex()}"


def work_dir(name: str) -> Path:
    """The absolute path of a folder `name` to be made for one run, short and without spaces.

    Prefers ``TMPDIR``. Raises ServerError where no folder for temporary files will do.
    """
    for root in (tempfile.gettempdir(), *_ELSEWHERE):
        path = Path(root).resolve() / name
        if _is_plain(path) and os.access(path.parent, os.W_OK | os.X_OK):
            return path
    raise ServerError(
        "TMPDIR: no folder for temporary files can be used; set it to a writable folder whose "
        f"path has at most {_LONGEST - len(name) - 1} characters and no spaces"
    )


def sockets(name: str) -> Sockets:
    """Where the server of the run `name` listens, unless it is to listen on ports."""
    return Sockets(work_dir(name) / "sockets")


def _is_plain(path: Path) -> bool:
    return len(str(path)) <= _LONGEST and bool(_PLAIN.fullmatch(str(path)))
