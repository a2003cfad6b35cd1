"""The ensemble is the public face: a stock tritonserver serves it, and any Triton client can
call it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av

from tests.e2e.stock import stock_triton


def test_a_plain_client_streams_a_video(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    program = [sys.executable, "-I", str(Path(__file__).with_name("plain_client.py"))]
    with stock_triton(repository, tmp_path) as url:
        words = [*program, url, "a red circle", str(output)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{(tmp_path / 'log').read_text()[-4000:]}"
    told = json.loads(done.stdout)
    assert told["stages"] == [["denoise", i, 4] for i in range(5)] + [
        ["decode", i, 3] for i in range(4)
    ]
    with av.open(str(output)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == told["made"]["num_frames"] == 9
    assert frames[0].shape == (32, 48, 3)
