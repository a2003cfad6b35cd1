"""Names and folders of the server of one run."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cli.runtime.endpoints import Sockets
from pipeline.ensemble.stages import STAGES
from pipeline.errors import ServerError

# A unix socket's path has at most 107 bytes, the longest name in the folder included.
_LONGEST = 107 - len("/control/") - max(len(stage.name) for stage in STAGES)
# The python backend starts its stubs by a shell command without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
_ELSEWHERE = ("/tmp", "/var/tmp")  # noqa: S108 - parents of a private folder


def new_name() -> str:
    """Return a unique name for a run."""
    return f"triton-video-{os.getpid()}-{os.urandom(4).hex()}"


def work_dir(name: str) -> Path:
    """Return the absolute path for the folder of the run ``name``, short and without spaces.

    Prefers ``TMPDIR``. Raises ServerError if no folder for temporary files is suitable.
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
    """Return the sockets of the run ``name``."""
    return Sockets(work_dir(name) / "sockets")


def _is_plain(path: Path) -> bool:
    return len(str(path)) <= _LONGEST and bool(_PLAIN.fullmatch(str(path)))
