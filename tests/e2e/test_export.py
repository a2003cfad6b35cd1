"""A stock tritonserver serves what `triton-video export` wrote: the same video as by the
embedded route.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cli.runtime.embedded import EmbeddedServer
from export.manifest import Manifest
from pipeline.client import Video, VideoClient
from pipeline.families import SamplingParams
from tests.conftest import ROOT
from tests.e2e.stock import stock_triton

PROMPT = SamplingParams(prompt="a red circle moves right", seed=5)


def frames_of(url: str) -> np.ndarray:
    with VideoClient(url) as client:
        video = next(
            event
            for event in client.generate(PROMPT, return_frames=True)
            if isinstance(event, Video)
        )
    assert video.frames is not None
    return video.frames


def test_exported_repository_makes_the_same_frames(
    server: EmbeddedServer, patch_checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    environment = {**os.environ, "TRITON_VIDEO_CACHE": str(cache)}

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "cli", "export", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("--model-path", str(patch_checkpoint), "--output", str(repo), "--precision", "fp32")
    manifest = Manifest.load(repo)
    figures = [graph.parity for component in manifest.components for graph in component.graphs]
    assert all(
        figure and figure.limit_max_abs and figure.max_abs <= figure.limit_max_abs
        for figure in figures
    )
    with stock_triton(repo, tmp_path) as url:
        exported = frames_of(url)
    assert exported.shape == (9, 32, 48, 3)
    assert np.array_equal(exported, frames_of(server.grpc_url))
    assert call("verify", str(repo)) == f"{repo}\n"
