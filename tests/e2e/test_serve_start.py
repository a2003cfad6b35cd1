"""``triton-video serve`` with its own Triton: its log, its key, and its end by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from bench.lib.ports import free_ports
from cli.params.credentials import KEY_FILE
from tests.conftest import ROOT
from tests.waiting import wait_for


class Serve:
    def __init__(self, checkpoint: Path, cache: Path, folder: Path):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.key = folder / "data" / KEY_FILE
        self._log = folder / "log"
        words = [
            sys.executable, "-m", "cli", "serve", "--model-path", str(checkpoint), "--port",
            str(port), "--data-path", str(folder / "data"), "--log-format", "json",
            "--encoder-engine", "torch", "--vae-engine", "torch",
        ]  # fmt: skip
        environment = {**os.environ, "TRITON_VIDEO_CACHE": str(cache)}
        environment.pop("TRITON_VIDEO_API_KEYS", None)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def lines(self) -> list[dict[str, Any]]:
        """Return the log. Fails if a line is not JSON."""
        *whole, _ = self._log.read_text().split("\n")
        return [json.loads(line) for line in whole]

    def messages(self, beginning: str) -> list[str]:
        return [line["message"] for line in self.lines() if line["message"].startswith(beginning)]

    def wait_for(self, beginning: str) -> str:
        """Return the first message that begins so, once it is logged."""

        def found() -> list[str]:
            assert self.process.poll() is None, self._log.read_text()
            return self.messages(beginning)

        wait_for(found, 120)
        return found()[0]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def serve(patch_checkpoint: Path, cache: Path, tmp_path: Path) -> Iterator[Serve]:
    """A serve that has nothing to export."""
    serve = Serve(patch_checkpoint, cache, tmp_path)
    yield serve
    serve.process.kill()
    serve.process.wait()


def test_ready_line_and_key_suffice_for_a_video(serve: Serve, tmp_path: Path) -> None:
    ready = serve.wait_for("ready at ")
    assert ready.startswith(f"ready at {serve.url} (API key: $(cat {serve.key}))")
    command = ready.partition("; try: ")[2].replace("curl ", "curl -sS --fail-with-body ")
    made = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"
    headers = {"Authorization": f"Bearer {serve.key.read_text()}"}
    (video,) = httpx.get(f"{serve.url}/v1/videos", headers=headers).json()["data"]
    assert video["peak_memory_mb"] > 50, "torch alone takes more"
    assert serve.stop() == 0
    assert len(serve.messages("ready at ")) == 1
    assert serve.lines(), "all of the log is JSON, also its end"


def test_sigterm_while_triton_loads_ends_it_without_an_error(serve: Serve) -> None:
    serve.wait_for("starting Triton: loading")
    assert httpx.get(f"{serve.url}/livez").status_code == 200
    health = httpx.get(f"{serve.url}/readyz")
    assert (health.status_code, "starting Triton" in health.json()["reasons"]["triton"]) == (
        503,
        True,
    )
    assert serve.stop() == 0
    assert [line for line in serve.lines() if line["level"] in ("warning", "error")] == [
        line for line in serve.lines() if "API key" in line["message"]
    ]
