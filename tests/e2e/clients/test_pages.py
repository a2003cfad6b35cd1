"""The examples of docs/clients work as they stand, but for the server's URL. Those of clients with
a row of their own in `installed.py` are run there, and the lines that start a server in
`test_serve_lines.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image
from playwright.async_api import Browser

from tests.browser import browser as browser
from tests.browser import tab
from tests.e2e.clients.conftest import INSTALLED, NODE
from tests.e2e.clients.servers import PAGE_KEY, ended, example, is_mp4
from tests.e2e.program import Proxy
from tests.waiting import async_wait_for


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


def test_curl_examples_work_in_their_order(small_proxy: Proxy, tmp_path: Path) -> None:
    def curl(number: int, video_id: str = "") -> str:
        text = example("curl.md", "bash", number, small_proxy.url).replace("VIDEO_ID", video_id)
        return run(["bash", "-e", "-c", text], tmp_path)

    made = json.loads(curl(0))["id"]
    headers = {"authorization": f"Bearer {PAGE_KEY}"}
    with httpx.Client(base_url=f"{small_proxy.url}/v1", headers=headers) as http:
        assert ended(http, made)["status"] == "completed"
        assert f'"id":"{made}"' in curl(1, video_id=made)
        curl(2)
        for name in ("circle.mp4", "direct.mp4"):
            assert is_mp4((tmp_path / name).read_bytes())
        Image.new("RGB", (64, 64), "red").save(tmp_path / "boat.png")
        begun = [curl(3), *curl(4, video_id=made).splitlines()]
        for answer in begun:
            assert ended(http, json.loads(answer)["id"])["status"] == "completed", answer
        assert '"deleted":true' in curl(5, video_id=made)
        assert http.get(f"/videos/{made}").status_code == 404


@pytest.mark.parametrize("number", [0, 1], ids=["vllm-omni", "openrouter"])
def test_bodies_of_other_shapes_make_a_video(small_proxy: Proxy, number: int) -> None:
    body = json.loads(example("shapes.md", "json", number))
    with httpx.Client(base_url=f"{small_proxy.url}/v1") as http:
        made = ended(http, http.post("/videos", json=body).json()["id"])
    assert (made["status"], made["model"], made["size"]) == ("completed", "sora-2", "64x64")
    assert made["num_frames"] == 9


async def test_browser_example_gives_a_page_the_url_of_a_video(
    proxy: Proxy, browser: Browser, tmp_path: Path
) -> None:
    """Node runs the example, as it belongs in a server. A page of another origin plays the URL,
    seeks and saves it, without a key.
    """
    headers = {"authorization": f"Bearer {PAGE_KEY}"}
    body = {"prompt": "a red circle", "num_frames": 17}
    async with httpx.AsyncClient(base_url=f"{proxy.url}/v1", headers=headers) as http:
        made = (await http.post("/videos", json=body)).json()["id"]
        await async_wait_for(lambda: completed(http, made))
    text = example("browser.md", "javascript", server=proxy.url).replace("VIDEO_ID", made)
    program = tmp_path / "example.mjs"
    program.write_text(f"{text}\nconsole.log(JSON.stringify([status, url]));\n")
    status, url = json.loads(run([str(NODE), str(program)], tmp_path))
    assert status == "completed"
    async with tab(browser) as page:
        await page.set_content(f'<video src="{url}" muted></video><a href="{url}" download>x</a>')
        video = page.locator("video")
        await async_wait_for(lambda: video.evaluate("video => video.readyState > 1"))
        assert await video.evaluate("video => video.duration") == pytest.approx(2.125, abs=0.01)
        await video.evaluate("video => { video.currentTime = 1.5; }")
        await async_wait_for(lambda: video.evaluate("video => !video.seeking"))
        assert await video.evaluate("video => [video.currentTime, video.error]") == [1.5, None]
        async with page.expect_download() as saving:
            await page.click("a")
        file = await (await saving.value).path()
        assert is_mp4(file.read_bytes())


async def completed(http: httpx.AsyncClient, video_id: str) -> bool:
    return (await http.get(f"/videos/{video_id}")).json()["status"] == "completed"
