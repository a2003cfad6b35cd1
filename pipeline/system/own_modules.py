"""How the project runs one of its modules in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

_ENTRY = Path(__file__).resolve().parents[2] / "triton_video.py"


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` with this interpreter.

    Neither the working directory nor ``PYTHONPATH`` can replace the project's packages in it
    (``-P`` keeps the first off the path, `triton_video` looks past the second).
    """
    return [sys.executable, "-P", str(_ENTRY), module, *arguments]
