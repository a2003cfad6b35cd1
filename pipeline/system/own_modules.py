"""Run one of the project's modules in a separate process."""

from __future__ import annotations

import sys
from pathlib import Path

_ENTRY = Path(__file__).resolve().parents[2] / "triton_video.py"


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` with this interpreter.

    Neither the working directory nor ``PYTHONPATH`` can replace the project's packages: ``-P``
    keeps the former off ``sys.path``, and `triton_video` bypasses the latter.
    """
    return [sys.executable, "-P", str(_ENTRY), module, *arguments]
