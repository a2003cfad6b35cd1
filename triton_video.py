"""The entry point: imports the project's packages from beside this file, whatever is on the path.

Their names (``cli``, ``pipeline``, ``models``, ...) are common, and a folder of the user's on
``PYTHONPATH`` may have the same ones. A finder that Python asks first keeps them apart.

``python triton_video.py MODULE [ARGUMENT...]`` runs a module of the project in the same way; the
project starts its child processes by it.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NoReturn

PACKAGES = frozenset({"cli", "export", "models", "pipeline", "proxy"})
_FOLDER = str(Path(__file__).resolve().parent)


class _OwnPackages(MetaPathFinder):
    """Finds the packages named in ``PACKAGES`` beside this file, and nothing else."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature of importlib
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [_FOLDER], target) if fullname in PACKAGES else None


def main() -> NoReturn:
    """Run the command line ``triton-video`` and exit."""
    sys.meta_path.insert(0, _OwnPackages())
    from cli.main import main

    main()


def run_module() -> None:
    """Run the module that the first argument names as ``__main__``, with the other arguments."""
    sys.meta_path.insert(0, _OwnPackages())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_module()
