"""The first ``triton-video generate`` of a checkpoint, with nothing in the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, SHAPES
from tests.hostile_checkpoints import keep_tensors


def first_run(model: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["--model-path", str(model), "--prompt", "a red circle", "--num-inference-steps", "2"]
    return subprocess.run(
        [sys.executable, "-m", "cli", "generate", *words, "--output-path", str(folder), "--json"],
        env={**os.environ, "TRITON_VIDEO_CACHE": str(folder / "cache"), "TMPDIR": str(folder)},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_first_run_makes_a_video_and_exports_nothing(tmp_path: Path) -> None:
    done = first_run(SHAPES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["video"]).stat().st_size > 1000
    assert list((tmp_path / "cache").rglob("*.onnx")) == []
    assert len(list((tmp_path / "cache/sound").iterdir())) == 1
    assert list(tmp_path.glob("triton-video-*")) == []


def test_a_checkpoint_that_is_not_sound_ends_the_first_run(tmp_path: Path) -> None:
    model = Path(shutil.copytree(SHAPES, tmp_path / "model"))
    weights = model / "vae/diffusion_pytorch_model.safetensors"
    keep_tensors(weights, lambda name: name != "post_quant_conv.bias")
    done = first_run(model, tmp_path)
    assert done.returncode == 3
    assert "needs post_quant_conv.bias, which no file holds" in done.stderr
    assert not list((tmp_path / "cache").glob("sound/*"))
    assert list(tmp_path.glob("triton-video-*")) == []
