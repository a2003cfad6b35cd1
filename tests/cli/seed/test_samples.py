"""The samples of the page as programs: with a real Triton and the bundled checkpoint, which stands
in for theirs.

``sglang`` is our own command, with flags behind the sample's own that name another checkpoint, less
work and one rank.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2 as httpx
import pytest

from tests.cli.seed import page
from tests.conftest import ROOT, SHAPES
from tests.needs import exhaustive

KEY = "sk-proj-1234567890"
SMALL = ["--height", "64", "--width", "64", "--num-frames", "5", "--num-inference-steps", "2"]
ONE_RANK = ["--num-gpus", "1", "--sp-size", "1", "--ulysses-degree", "1", "--ring-degree", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where samples run: with a command called ``sglang`` on their path."""
    (tmp_path / "bin").mkdir()
    return tmp_path


def command(folder: Path, *flags: str) -> dict[str, str]:
    """Return the environment in which ``sglang`` is this command, with ``flags`` added."""
    program = folder / "bin" / "sglang"
    ours = shlex.join(["--model-path", str(SHAPES), *ONE_RANK, *flags])
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m cli "$@" {ours}\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "TRITON_VIDEO_API_KEYS": KEY,
        "OMP_NUM_THREADS": "1",
    }


def whole(sample: str) -> str:
    """Return the sample with arrays as bash passes them; the page is written for zsh."""
    return re.sub(r"\$(\w+_ARGS)\b", r'"${\1[@]}"', sample)


def bash(sample: str, folder: Path, environment: dict[str, str]) -> str:
    """What a sample printed."""
    done = subprocess.run(
        ["bash", "-e", "-c", sample],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def frames(video: Path) -> list[tuple[int, int]]:
    with av.open(video) as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


@pytest.mark.program
def test_help(folder: Path):
    (see_help,) = [block.text for block in page.blocks("bash") if "--help" in block.text]
    assert "--num-inference-steps" in bash(see_help, folder, command(folder))


@pytest.mark.server
@pytest.mark.parametrize("kind", [exhaustive("json"), "yaml"])
def test_config_files_generate_a_video(folder: Path, kind: str):
    file = folder / f"config.{kind}"
    file.write_text(page.block("Using Configuration Files", kind))
    sample = page.blocks("bash")[0].text.replace("{CONFIG_FILE_PATH}", str(file))
    video = folder / bash(sample, folder, command(folder, *SMALL)).strip()
    assert video.parent == folder / "outputs"
    assert frames(video) == [(64, 64)] * 5


@pytest.mark.server
def test_a_video_of_one_command(folder: Path):
    sample = whole(page.block("Generate", "bash"))
    assert bash(sample, folder, command(folder, *SMALL)) == "outputs/A curious raccoon.mp4\n"
    assert frames(folder / "outputs" / "A curious raccoon.mp4") == [(64, 64)] * 5


@pytest.mark.server
def test_flag_arrays_generate_a_video(folder: Path):
    """Each flag of the lists at once, with a value where the page writes one in braces."""
    values = {
        "PROMPT": "A curious raccoon", "STEPS": "2", "SEED": "1024", "HEIGHT": "64", "WIDTH": "64",
        "NUM_FRAMES": "5", "FPS": "24", "PATH": "made", "TP_SIZE": "1",
    }  # fmt: skip
    lists = page.TEXT.partition("## Supported Arguments")[2].partition(
        "### Using Configuration Files"
    )[0]
    flags = re.findall(r"^- `(--[a-z-]+)(?: \{(\w+)\})?`", lists, re.MULTILINE)
    assert len(flags) == 17
    given = [flag if not name else f"{flag}={values.get(name, '1')}" for flag, name in flags]
    printed = bash(shlex.join(["sglang", "generate", *given]), folder, command(folder))
    assert printed == "made/a-curious-raccoon.mp4\n"
    assert frames(folder / "made" / "a-curious-raccoon.mp4") == [(64, 64)] * 5
    assert (folder / "made" / "a-curious-raccoon.npy").is_file()


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """The port of the server that the page's sample starts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    environment = command(folder, "--port", port, "--data-path", "data")
    sample = "exec " + page.block("Start the server", "bash").rpartition("\n\n")[2]
    arrays = page.block("Start the server", "bash").rpartition("\n\n")[0]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"{arrays}\n{whole(sample)}"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        require_listening(process, port, folder / "log")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def require_listening(process: subprocess.Popen[bytes], port: str, log: Path) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.server
def test_a_server_and_its_clients(folder: Path, served: str):
    """The SDK's samples and curl's, but for the port and the size, which are those of a test."""

    def ours(text: str) -> str:
        return text.replace(":30010/", f":{served}/").replace("1280x720", "64x64")

    client, create, listing, poll = [ours(block.text) for block in page.blocks("python")]
    python = [sys.executable, "-W", "ignore", "-c"]
    printed = subprocess.run(
        [*python, client + create + listing + poll], cwd=folder, capture_output=True, text=True
    )
    assert printed.returncode == 0, printed.stderr
    video_id = printed.stdout.split()[0]
    assert printed.stdout.startswith(f"{video_id} queued\n{video_id} ")
    assert frames(folder / "output.mp4") == [(64, 64)] * 17

    curl_create, curl_list, curl_download = [
        ours(block.text) for block in page.blocks("bash") if block.heading == "curl examples"
    ]
    created = bash(curl_create, folder, dict(os.environ))
    assert '"queued"' in created
    assert video_id in bash(curl_list, folder, dict(os.environ))
    (folder / "output.mp4").unlink()
    bash(curl_download.replace("<VIDEO_ID>", video_id), folder, dict(os.environ))
    assert frames(folder / "output.mp4") == [(64, 64)] * 17
