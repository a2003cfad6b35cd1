"""``triton-video serve --runtime docker``: a container that is replaced when it dies, and goes
with the server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import openai
import pytest

from tests.containers.docker import Docker

pytestmark = [
    pytest.mark.containers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]
ROOT = Path(__file__).resolve().parents[2]
SHORT = {"num_inference_steps": 2}


class Server:
    def __init__(self, cache: Path, folder: Path):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        words = [
            sys.executable,
            "-m",
            "cli",
            "serve",
            "--runtime",
            "docker",
            "--data-path",
            str(folder / "data"),
        ]
        env = {
            **os.environ,
            "TRITON_VIDEO_CACHE": str(cache),
            "TRITON_VIDEO_API_KEYS": "key",
            "TMPDIR": str(folder),
        }
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*words, "--port", self.url.rpartition(":")[2]],
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail(f"it did not get ready: {self.log.read_text()}")


@pytest.fixture
def server(
    docker: Docker, seeded_cache: Path, tmp_path: Path, nothing_left: Callable
) -> Iterator[Server]:
    server = Server(seeded_cache, tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


def test_dead_container_is_replaced_and_removed_with_the_server(server, docker, nothing_left):
    server.wait_until_ready()
    with openai.OpenAI(api_key="key", base_url=f"{server.url}/v1", max_retries=0) as client:
        first = docker.serving()
        words = "{{.HostConfig.NetworkMode}} {{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}}"
        assert docker("inspect", "--format", words, first) == "none [ALL] true"
        for victim in (first, None):
            made = client.videos.create_and_poll(
                prompt="a red circle", poll_interval_ms=100, extra_body=SHORT
            )
            assert (made.status, made.error) == ("completed", None)
            if victim:
                docker("kill", victim)
        assert docker.serving() != first
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) in (0, 128 + signal.SIGTERM)
    nothing_left()
