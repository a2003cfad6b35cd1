"""The examples of examples.md as they stand: the key is theirs, the size is 1280x720, only the
port is ours.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2 as httpx
import pytest

from tests.e2e.clients.conftest import EXAMPLE_KEY
from tests.e2e.program import Proxy

PAGE = (Path(__file__).parent / "examples.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
BASH = [text for language, text in BLOCKS if language == "bash"]


class Examples:
    """Runs examples in one folder, against one server."""

    def __init__(self, port: str, folder: Path):
        self._port = port
        self._folder = folder

    def start(self, *texts: str) -> subprocess.Popen[str]:
        text = "\n".join(texts).replace(":30010/", f":{self._port}/")
        program = (
            ["bash", "-e", "-c"]
            if text.startswith("curl")
            else [sys.executable, "-W", "ignore", "-c"]
        )
        return subprocess.Popen(
            [*program, text], cwd=self._folder, stdout=subprocess.PIPE, text=True
        )

    def run(self, *texts: str) -> str:
        return ended(self.start(*texts))


@pytest.fixture
def examples(proxy: Proxy, tmp_path: Path) -> Examples:
    return Examples(proxy.url.rpartition(":")[2], tmp_path)


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {EXAMPLE_KEY}"}
    with httpx.Client(base_url=f"{proxy.url}/v1", headers=headers) as http:
        yield http


def test_every_example_works_as_it_stands(
    examples: Examples, http: httpx.Client, tmp_path: Path
) -> None:
    client, create, list_videos, poll_and_download = PYTHON
    curl_create, curl_list, curl_download = BASH
    polling = examples.start(client, poll_and_download)
    while not (videos := http.get("/videos").json()["data"]):
        assert polling.poll() is None
    made = videos[0]["id"]

    created = [json.loads(examples.run(curl_create))["id"]]
    printed = examples.run(client, create, list_videos).splitlines()
    created.append(printed[0].split()[0])
    assert printed[0] == f"{created[1]} queued"
    assert [line.split()[0] for line in printed[1:]] == [created[1], created[0], made]
    told = json.loads(examples.run(curl_list))
    assert [(video["id"], video["size"]) for video in told["data"]] == [
        (video_id, "1280x720") for video_id in (created[1], created[0], made)
    ]
    for video_id in created:  # nobody waits for them
        http.delete(f"/videos/{video_id}")

    ended(polling)
    saved = (tmp_path / "output.mp4").read_bytes()
    with av.open(tmp_path / "output.mp4") as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(1280, 720)]
    (tmp_path / "output.mp4").unlink()
    examples.run(curl_download.replace("<VIDEO_ID>", made))
    assert (tmp_path / "output.mp4").read_bytes() == saved


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output
