"""The programs that ``torch.compile`` needs. Does not import torch."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path

from pipeline.errors import InputError

FIELD = "enable_torch_compile"


def require_compiler(*, gpu: bool) -> None:
    """Raise ``InputError`` unless ``torch.compile`` can build its kernels on this machine.

    Its kernels are C++ for a CPU, which g++ compiles. For a GPU they are programs of OpenAI's
    Triton, which compiles the part that starts them with gcc or clang.
    """
    names = ("gcc", "clang") if gpu else ("g++",)
    if not any(shutil.which(name) for name in names):
        raise InputError(
            FIELD, f"needs a compiler, and {' or '.join(names)} is not on the PATH; install "
            "g++, or leave it off"
        )  # fmt: skip
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise InputError(
            FIELD, f"needs Python.h, which is not in {headers}; install Python's headers "
            "(python3-dev), or leave it off"
        )  # fmt: skip
    if gpu and importlib.util.find_spec("triton") is None:
        raise InputError(FIELD, "needs the Python package triton on a GPU; leave it off")
