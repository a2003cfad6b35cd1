"""The project's own tests that need a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.gpu.results import report
from bench.gpu.sizes import Sizes

ROOT = Path(__file__).resolve().parents[3]
FILES = (
    "tests/pipeline/parallel/test_attention.py",
    "tests/pipeline/ranks/test_offload.py",
    "tests/pipeline/sessions/test_tensorrt_session.py",
)


def run(work: Path, sizes: Sizes) -> None:  # noqa: ARG001 - every section's signature
    """Run them without the options of pyproject.toml, whose plugins a bare machine lacks."""
    options = ["-o", "addopts=--import-mode=importlib", "-o", "filterwarnings="]
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=20", "-m", "gpu", *options]
    command += ["-p", "no:cacheprovider", *FILES]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    failed = [line[:160] for line in lines if line.startswith(("FAILED", "ERROR"))]
    last = lines[-1] if lines else done.stderr[-200:]
    report("pytest -m gpu", last, note=" | ".join(failed))
