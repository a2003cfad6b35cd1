"""The lines of docs/clients that start a server, as they stand but for the port, and what each page
promises of that server.

n8n and new-api themselves are not run: they are services with a database and a page of their own.
The requests that their source code builds are in `replays.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e.clients.servers import PAGE_KEY, PROMPT, ended, example
from tests.e2e.shell import folder as folder
from tests.e2e.shell import port as port
from tests.e2e.shell import running

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]
SERVERS = {"index.md": "127.0.0.1", "n8n.md": "0.0.0.0", "new-api.md": "127.0.0.1"}
BODY = {"model": "sora-2", "prompt": PROMPT, "num_frames": 1, "num_inference_steps": 1}
READY_S = 300


@contextmanager
def started(page: str, folder: Path, port: str) -> Iterator[httpx.Client]:
    """Run the line of ``page`` and yield a client of its server, once that is ready."""
    headers = {"authorization": f"Bearer {PAGE_KEY}"}
    address = f"http://127.0.0.1:{port}/v1"
    with running(example(page, "bash"), folder, port) as process:
        deadline = time.monotonic() + READY_S
        with httpx.Client(base_url=address, headers=headers, timeout=60) as http:
            while not ready(http):
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server is not ready"
                time.sleep(0.1)
            yield http


def ready(http: httpx.Client) -> bool:
    try:
        return httpx.get(str(http.base_url).replace("/v1/", "/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("page", SERVERS)
def test_line_starts_a_server_that_makes_a_video(page: str, folder: Path, port: str) -> None:
    with started(page, folder, port) as http:
        names = {model["id"] for model in http.get("/models").json()["data"]}
        assert names == {"shapes", "sora-2"}
        made = ended(http, http.post("/videos", json=BODY).json()["id"])
        assert (made["status"], made["model"]) == ("completed", "sora-2")
        extra = http.post("/videos", json={**BODY, "added_by_a_gateway": 1})
        assert http.get("/models", headers={"authorization": "Bearer other"}).status_code == 401
        if page == "new-api.md":
            assert extra.status_code == 200
            (target,) = json.loads(example(page, "json")).values()
            assert target in names
        else:
            assert extra.json()["error"]["param"] == "added_by_a_gateway"
        assert listens_on(int(port)) == SERVERS[page]


def listens_on(port: int) -> str:
    """Return the IPv4 address of the socket that listens on a port of this machine."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        address, number = line.split()[1].split(":")
        if int(number, 16) == port and line.split()[3] == "0A":
            return ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
    raise AssertionError(f"nothing listens on port {port}")
