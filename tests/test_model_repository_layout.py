"""The models that Triton loads are thin adapters: under 60 lines each, importing nothing of ours
but ``pipeline``.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted((ROOT / "model_repository").glob("*/1/model.py"))
ALLOWED = {"pipeline", "numpy", "triton_python_backend_utils", *sys.stdlib_module_names}


def imported_packages(source: str) -> set[str]:
    """The top-level packages that ``source`` imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or ".").split(".")[0])
    return found


def test_there_are_models():
    assert MODELS


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.parts[-3])
def test_model_is_a_thin_adapter(model):
    source = model.read_text()
    assert len(source.splitlines()) < 60
    assert imported_packages(source) <= ALLOWED
