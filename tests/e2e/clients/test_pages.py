"""The examples of docs/clients work as they stand, but for the server's URL. Those of clients with
a row of their own in `installed.py` are run there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
from PIL import Image

from tests.e2e.clients.conftest import INSTALLED, NODE
from tests.e2e.clients.servers import PAGE_KEY, ended, example, is_mp4
from tests.e2e.program import Proxy


def run(argv: list[str], folder: Path) -> str:
    """Return what a program printed. Raises AssertionError if it failed."""
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_example_makes_and_saves_a_video(small_proxy: Proxy, tmp_path: Path) -> None:
    text = example("openai.md", "python", server=small_proxy.url)
    printed = run([sys.executable, "-W", "ignore", "-c", text], tmp_path)
    assert printed.split() == ["completed", "64x64", "1.125"]
    assert is_mp4((tmp_path / "circle.mp4").read_bytes())


def test_node_example_makes_and_saves_a_video(small_proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    package = INSTALLED / "node" / "node_modules" / "openai-7"
    (tmp_path / "node_modules" / "openai").symlink_to(package)
    program = tmp_path / "example.mjs"
    program.write_text(example("openai.md", "javascript", server=small_proxy.url))
    assert run([str(NODE), str(program)], tmp_path).split() == ["completed", "64x64", "1.125"]
    assert is_mp4((tmp_path / "circle.mp4").read_bytes())


def test_curl_examples_work_in_their_order(
    small_proxy: Proxy, image_proxy: Proxy, tmp_path: Path
) -> None:
    def curl(number: int, server: Proxy = small_proxy, video_id: str = "") -> str:
        text = example("curl.md", "bash", number, server.url).replace("VIDEO_ID", video_id)
        return run(["bash", "-e", "-c", text], tmp_path)

    made = json.loads(curl(0))["id"]
    headers = {"authorization": f"Bearer {PAGE_KEY}"}
    with httpx.Client(base_url=f"{small_proxy.url}/v1", headers=headers) as http:
        assert ended(http, made)["status"] == "completed"
        assert f'"id":"{made}"' in curl(1, video_id=made)
        curl(2)
        for name in ("circle.mp4", "direct.mp4"):
            assert is_mp4((tmp_path / name).read_bytes())
        assert '"deleted":true' in curl(4, video_id=made)
        assert http.get(f"/videos/{made}").status_code == 404
    Image.new("RGB", (64, 64), "red").save(tmp_path / "boat.png")
    assert json.loads(curl(3, image_proxy))["status"] == "queued"
