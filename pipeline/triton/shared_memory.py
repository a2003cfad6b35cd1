"""Makes the shared memory of a tritonserver's models inaccessible to other users.

The python backend makes its regions readable by all users, whatever the umask, and prompts and
videos pass through them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

PREFIX_VARIABLE = "TRITON_VIDEO_SHM_PREFIX"
FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is


def close_to_others(environment: Mapping[str, str] = os.environ, folder: Path = FOLDER) -> None:
    """Set the mode of this server's regions to 0600. Each stage calls it before its first request.

    Without `PREFIX_VARIABLE`, as under a stock tritonserver, it does nothing.
    """
    prefix = environment.get(PREFIX_VARIABLE)
    for region in folder.iterdir() if prefix else ():
        # A region may be removed while this runs, or belong to another user and have a similar
        # name.
        if region.name.startswith(str(prefix)):
            with contextlib.suppress(OSError):
                region.chmod(0o600)
