"""Runs a few lines of Python as another user of the machine, and returns what they print."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NOBODY = 65534


def as_nobody(program: str, *arguments: str) -> str:
    """The program sees ``arguments`` in ``sys.argv[1:]``. Skips where this process may not
    change its user.
    """
    if os.getuid() != 0:
        pytest.skip("only root can run a process as another user")
    # The interpreter may be in a folder that only root enters: the user changes once all is
    # imported.
    change = f"import os, socket, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    ended = subprocess.run(
        [sys.executable, "-c", change + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
