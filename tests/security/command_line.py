"""The real command line, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

MEMORY_BYTES = 4 << 30
ENOUGH_S = 120


@dataclass
class Ended:
    """``code`` is None where the command had to be killed; ``error`` is the last line of
    standard error.
    """

    code: int | None
    error: str

    def __str__(self) -> str:
        return (
            f"exit {self.code}: {self.error}"
            if self.code is not None
            else f"nothing for {ENOUGH_S} s"
        )


def command(*words: object, cache: Path, **environment: str) -> Ended:
    """Run ``triton-video``, in bounded memory."""
    variables = {
        **os.environ,
        "TRITON_VIDEO_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *map(str, words)],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=ENOUGH_S,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)
            ),
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "")
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Ended(done.returncode, lines[-1].removeprefix("triton-video: ") if lines else "")
