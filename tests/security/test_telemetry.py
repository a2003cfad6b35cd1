"""The programs as users run them, under strace: no name is looked up and nothing is reported."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.settings import StageSettings
from tests.security.watched import unavailable, watched

KEY = "sk-watched"
# ONNX Runtime 1.32 looks up its collector eight seconds after a process imports it.
REPORTS_AFTER_S = 10.0
BEFORE = "16 look-ups of mobile.events.data.microsoft.com; a device id in ~/.cache/Microsoft"
UNAVAILABLE = unavailable()
pytestmark = [
    pytest.mark.skipif(UNAVAILABLE is not None, reason=f"no program can be watched: {UNAVAILABLE}"),
    pytest.mark.server,
]


@pytest.fixture(scope="module")
def checkpoint(patch_checkpoint: Path, cache: Path) -> Path:
    """A checkpoint whose model repository is in the cache."""
    settings = StageSettings(checkpoint=str(patch_checkpoint))
    prepare_repository(Checkpoint.open(patch_checkpoint), settings, lambda message: None, cache)
    return patch_checkpoint


@pytest.mark.attack("`generate` reports to a third party", BEFORE)
def test_generate_reports_nothing(
    checkpoint: Path, cache: Path, tmp_path: Path, after: Callable[[str], None]
) -> None:
    command = [sys.executable, "-m", "cli", "generate", "--prompt", "a red circle", "-q"]
    command += ["--model-path", str(checkpoint), "--output-path", str(tmp_path)]
    with watched(command, tmp_path, TRITON_VIDEO_CACHE=str(cache)) as run:
        made, _ = run.process.communicate(timeout=120)
    assert Path(made.strip()).is_file()
    assert (run.outward, run.reports) == ([], [])
    after("0 look-ups, 0 connections beyond loopback, no file left")


@pytest.mark.attack("`serve` reports to a third party", BEFORE)
def test_serve_reports_nothing(
    checkpoint: Path, cache: Path, tmp_path: Path, after: Callable[[str], None]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "cli", "serve", "--model-path", str(checkpoint)]
    command += ["--port", str(port), "--data-path", str(tmp_path / "data")]
    variables = {"TRITON_VIDEO_CACHE": str(cache), "TRITON_VIDEO_API_KEYS": KEY}
    with (
        watched(command, tmp_path, **variables) as run,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        ) as client,
    ):
        until_ready(client)
        began = time.monotonic()
        answer = client.post("/v1/videos/sync", json={"prompt": "a red circle"})
        assert (answer.status_code, answer.content[4:8]) == (200, b"ftyp")
        time.sleep(max(0.0, REPORTS_AFTER_S - (time.monotonic() - began)))
        run.stop(signal.SIGTERM)
    assert (run.outward, run.reports) == ([], [])
    after("0 look-ups, 0 connections beyond loopback, no file left")


def test_outgoing_connections_and_reports_are_noticed(tmp_path: Path) -> None:
    """Without the variables ONNX Runtime reports, and an address outside shows in the log.

    Connecting a datagram socket sends nothing, and the process ends before ONNX Runtime sends.
    """
    program = (
        "import onnxruntime, socket\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 53))\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
    )
    with watched([sys.executable, "-c", program], tmp_path) as run:
        run.process.communicate(timeout=60)
    assert run.outward == ["192.0.2.1:9", "127.0.0.1:53"]
    assert any(path.endswith("deviceid") for path in run.reports)


def until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server is not ready after 60 seconds")
