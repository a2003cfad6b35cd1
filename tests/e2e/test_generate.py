"""``triton-video generate`` as a user runs it: a process of its own, a real server, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(
    patch_checkpoint: Path, repository: Path, cache: Path, tmp_path: Path
) -> dict[str, Any]:
    """The arguments and the environment of a run whose repository is in the cache already."""
    arguments = [
        sys.executable,
        "-m",
        "cli",
        "generate",
        "--prompt",
        "a red circle",
        "--model-path",
        str(patch_checkpoint),
    ]
    arguments += ["--output-path", str(tmp_path / "out")]
    return {"args": arguments, "env": {**os.environ, "TRITON_VIDEO_CACHE": str(cache)}, "cwd": ROOT}


def run(command: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
    arguments = [*command["args"], *flags]
    return subprocess.run(
        arguments,
        env=command["env"],
        cwd=command["cwd"],
        capture_output=True,
        text=True,
        check=False,
    )


def servers_of(mark: str) -> list[str]:
    """Command lines of every process that inherited the run's mark in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"TRITON_VIDEO_TEST_RUN={mark}".encode() in environment.split(b"\0"):
            found.append(line)
    return found


def test_generate_writes_video_frames_and_json(command: dict[str, Any], tmp_path: Path) -> None:
    done = run(command, "--json", "--return-frames", "--seed", "3", "--num-inference-steps", "2")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["seed"], told["num_inference_steps"], told["num_frames"]) == (3, 2, 9)
    assert Path(told["video"]) == tmp_path / "out" / "a-red-circle.mp4"
    frames = np.load(told["frames"], allow_pickle=False)
    assert frames.dtype == np.uint8
    assert frames.shape == (9, 32, 48, 3)
    with av.open(told["video"]) as container:
        decoded = np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )
    assert decoded.shape == frames.shape
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a-red-circle.mp4",
        "a-red-circle.npy",
    ]


def test_a_second_run_does_not_overwrite(command: dict[str, Any], tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        done = run(command, "-q")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        names.append(Path(done.stdout.strip()).name)
    assert names == ["a-red-circle.mp4", "a-red-circle-2.mp4"]


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interrupted_run_leaves_no_process_and_no_file(
    command: dict[str, Any], tmp_path: Path, kind: signal.Signals, code: int
) -> None:
    """No process and no file is left, however the run is ended."""
    mark = str(os.getpid()) + kind.name
    command["env"] |= {"TRITON_VIDEO_TEST_RUN": mark}
    process = subprocess.Popen(
        [*command["args"], "--num-inference-steps", "200", "--width", "256", "--height", "256"],
        env=command["env"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("triton-video: denoise"):
            break
    process.send_signal(kind)
    process.communicate(timeout=10)
    assert process.returncode == code
    deadline = time.monotonic() + 5
    while servers_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_of(mark) == []
    left = [p.name for p in (tmp_path / "out").iterdir()] if (tmp_path / "out").exists() else []
    assert [name for name in left if not name.startswith(".")] == []
    if kind is not signal.SIGKILL:
        assert left == []


def test_broken_checkpoint_prints_one_line_and_exits_3(
    command: dict[str, Any], tmp_path: Path
) -> None:
    done = run(command, "--model-path", str(tmp_path / "nothing"))
    assert done.returncode == 3
    assert (
        done.stderr == f"triton-video: {tmp_path / 'nothing'} is not a folder; "
        "a Diffusers checkpoint folder is needed\n"
    )
    assert done.stdout == ""
