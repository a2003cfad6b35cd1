"""Compile ONNX graphs to TensorRT engines, and check that they will compile on a GPU that is not
here.

Importing this needs neither TensorRT nor torch. A separate process makes every engine
(`export.tensorrt.worker`).
"""

from __future__ import annotations

from export.tensorrt.building import build, require_builder, verify
from export.tensorrt.check_and_build import check_and_build, compilers
from export.tensorrt.checking import check, require_compiled
from export.tensorrt.findings import Findings
from export.tensorrt.targets import TARGETS, require_targets

__all__ = [
    "TARGETS",
    "Findings",
    "build",
    "check",
    "check_and_build",
    "compilers",
    "require_builder",
    "require_compiled",
    "require_targets",
    "verify",
]
