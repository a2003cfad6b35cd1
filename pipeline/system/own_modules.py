"""Where the project's packages are, and how one of its modules runs in a separate process."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2]
"""The folder of the packages: a checkout, or the site-packages of a wheel.

By this file's place, not by an import: a user's folder of the same name may come first.
"""


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` with this interpreter.

    Neither the working directory nor ``PYTHONPATH`` can replace the project's packages: ``-P``
    keeps the former off ``sys.path``, and `triton_video` bypasses the latter.
    """
    return [sys.executable, "-P", str(FOLDER / "triton_video.py"), module, *arguments]
