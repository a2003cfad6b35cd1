"""Print the packages of TensorRT's Python API for the TensorRT library of this machine, one a line.

    python tensorrt_packages.py

A build of the image ``gpu`` installs them without dependencies: they contain no TensorRT, so what
builds an engine is the library that Triton's tensorrt backend loads. Standard library only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

FOLDERS = ("usr/lib/*-linux-gnu", "usr/local/tensorrt/lib", "opt/tensorrt/lib")


def library_version(root: Path, variables: Mapping[str, str]) -> str:
    """Return major, minor and patch version of the library below ``root``, such as 10.13.3.

    They are in its file name; ``TRT_VERSION``, which NVIDIA's images set, is the second choice.
    Raises ``LookupError`` if there is none.
    """
    names = [path.name for folder in FOLDERS for path in root.glob(f"{folder}/libnvinfer.so.*")]
    for text in (*names, variables.get("TRT_VERSION", "")):
        if found := re.search(r"(?:^|\.so\.)(\d+\.\d+\.\d+)", text):
            return found[1]
    raise LookupError(
        "no TensorRT here: neither libnvinfer.so.X.Y.Z in "
        f"{', '.join(f'/{folder}' for folder in FOLDERS)}, nor the variable TRT_VERSION"
    )


def main(root: Path = Path("/"), variables: Mapping[str, str] = os.environ) -> int:
    try:
        version = library_version(root, variables)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1
    cuda = variables.get("CUDA_VERSION", "13").partition(".")[0]
    packages = (f"tensorrt-cu{cuda}", f"tensorrt-cu{cuda}-bindings", "tensorrt")
    # The fourth number is a build; that of a package may end in .post1.
    print("\n".join(f"{package}=={version}.*" for package in packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
