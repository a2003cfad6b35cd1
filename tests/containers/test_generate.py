"""``triton-video generate --runtime docker`` for real: a video, and nothing left however it
ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import psutil
import pytest

from tests.containers.docker import Docker

pytestmark = [pytest.mark.containers, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
LONG = ("--num-inference-steps", "200", "--num-frames", "49")  # seconds, also on a quick machine


class Run:
    """The command, in a process group of its own as a shell would start it."""

    def __init__(self, cache: Path, folder: Path, *flags: str):
        words = [
            sys.executable,
            "-m",
            "cli",
            "generate",
            "--runtime",
            "docker",
            "--prompt",
            "a red circle moves right",
        ]
        env = {**os.environ, "TRITON_VIDEO_CACHE": str(cache), "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            [*words, "--output-path", str(folder / "out"), *flags], cwd=ROOT, env=env, text=True,
            process_group=0,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for(self, words: str) -> None:
        for line in self.process.stderr:
            if words in line:
                return
        pytest.fail(f"it ended before it said {words}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=280)
        return self.process.returncode, out, err


@pytest.fixture
def run(
    docker: Docker, seeded_cache: Path, tmp_path: Path, nothing_left: Callable
) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*flags: str) -> Run:
        runs.append(Run(seeded_cache, tmp_path, *flags))
        return runs[-1]

    yield start
    for started in runs:
        started.process.kill()
        started.process.communicate()


def test_video_is_made_and_nothing_is_left_behind(run, tmp_path, nothing_left):
    code, out, err = run("--num-inference-steps", "2", "--output-file-name", "clip.mp4").end()
    assert (code, out) == (0, f"{tmp_path}/out/clip.mp4\n"), err
    with av.open(out.strip()) as file:
        assert sum(1 for _ in file.decode(video=0)) == 17
    nothing_left()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_run_leaves_nothing_behind(run, tmp_path, nothing_left, number):
    started = run(*LONG)
    started.wait_for("denoise")
    started.process.send_signal(number)
    assert started.end()[0] == (130 if number == signal.SIGINT else -signal.SIGKILL)
    nothing_left()
    assert not list(tmp_path.glob("out/*"))


def test_killing_a_run_with_its_keeper_leaves_nothing_behind(run, docker, nothing_left):
    started = run(*LONG)
    started.wait_for("denoise")
    assert len(docker.runs()) == 1
    family = [
        psutil.Process(started.process.pid),
        *psutil.Process(started.process.pid).children(recursive=True),
    ]
    for process in family:
        process.suspend()
    for process in family:
        process.kill()
    nothing_left()


def test_killed_container_is_reported(run, docker, nothing_left):
    started = run(*LONG)
    started.wait_for("denoise")
    docker("kill", docker.serving())
    code, _, err = started.end()
    assert code == 4
    assert (
        "the server died during generation: the container was killed (SIGKILL"
        in err.splitlines()[-1]
    )
    nothing_left()


def test_missing_image_is_reported_before_anything_starts(run, docker):
    code, _, err = run("--image", "triton-video:never-built").end()
    assert code == 4
    assert "docker has no image triton-video:never-built; build it" in err
