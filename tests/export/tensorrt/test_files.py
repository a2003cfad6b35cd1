"""Engines and timings are whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export.tensorrt import files
from tests.export.tensorrt import graphs

ROOT = Path(__file__).resolve().parents[3]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    files.write(path, memoryview(b"old"))
    with pytest.raises(TypeError):
        files.write(path, "no buffer")
    assert path.read_bytes() == b"old"
    assert graphs.files(tmp_path) == ["model.plan"]


def test_timings_survive_a_round_trip(tmp_path: Path) -> None:
    """tensorrt-rtx has the functions of TensorRT's timing cache, which do nothing there but keep
    to their types.
    """
    script = """
import sys, warnings
from pathlib import Path
import tensorrt_rtx as trt
from export.tensorrt import files
warnings.simplefilter("ignore")
config = trt.Builder(trt.Logger()).create_builder_config()
path = Path(sys.argv[1])
files.load_timings(config, path)
files.save_timings(config, path)
assert path.stat().st_size > 0
files.load_timings(config, path)
"""
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "timings")], cwd=ROOT, check=True, timeout=60
    )
    assert graphs.files(tmp_path) == ["timings"]
