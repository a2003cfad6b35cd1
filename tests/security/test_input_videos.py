"""Attacks by an uploaded video, on the server as a program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from tests.proxy.clips import clip
from tests.security.http_server import HEADERS, Attacked, answer, attacked, error_code, head
from tests.security.test_http_bodies import MAX_STALL_S, stalls

pytestmark = pytest.mark.program

Report = Callable[[str], None]
EDITS, EXTENSIONS = ROUTES = ("/v1/videos/edits", "/v1/videos/extensions")
FILES: dict[str, Callable[[], bytes]] = {
    "cut off": lambda: clip(30)[:-500],
    "cut off in its middle": lambda: clip(30)[: len(clip(30)) // 2],
    "with a damaged table": lambda: clip(30).replace(
        b"stsz" + bytes(8), b"stsz" + bytes(4) + b"\x7f\xff\xff\xff"
    ),
    "of 33 million pixels a frame": lambda: clip(1, (7680, 4320)),
    "with a codec that is not allowed": lambda: clip(codec="ffv1", container="matroska"),
    "in a container that is not allowed": lambda: clip(codec="mpeg4", container="avi"),
    "that is a playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "that is a list of files": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "that is a page with an address": lambda: b"<MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>",
    "that is zeros behind a head": lambda: clip()[:64].ljust(20 << 20, b"\0"),
    "of 1,100 frames": lambda: clip(1100, (32, 32)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("server"), environment={"HOLD": "1"}) as running:
        yield running


def post(server: Attacked, video: bytes, route: str = EDITS) -> httpx.Response:
    files = {"video": ("x.mp4", video), "prompt": (None, "x")}
    return httpx.post(server.url + route, files=files, headers=HEADERS, timeout=120)


def decoders(server: Attacked) -> int:
    count = 0
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            count += "proxy.video_probe" in child.cmdline()
    return count


@pytest.mark.attack("a video file that is not what it seems", "there were no uploads of videos")
def test_hostile_video_is_refused_without_harm(server: Attacked, after: Report) -> None:
    for route in ROUTES:
        assert post(server, clip(), route).status_code == 200
    before = server.peak_mib()
    with stalls(server) as seconds:
        for (name, make), route in product(FILES.items(), ROUTES):
            reply = post(server, make(), route)
            assert reply.status_code == 400, (name, reply.text)
            error = reply.json()["error"]
            assert error["param"] == "video", name
            assert "passwd" not in error["message"], name
    grown = server.peak_mib() - before
    assert max(seconds) < MAX_STALL_S
    assert grown < 120
    assert decoders(server) == 0
    kinds = f"{len(FILES)} kinds on two routes"
    after(f"{kinds}: refused, {1000 * max(seconds):.0f} ms at most, {grown:.0f} MiB")


@pytest.mark.attack("a video is uploaded without a key", "there were no uploads of videos")
@pytest.mark.parametrize("route", ROUTES)
def test_upload_without_a_key_is_not_read(server: Attacked, route: str, after: Report) -> None:
    kind = "content-type: multipart/form-data; boundary=x"
    begin = b'--x\r\ncontent-disposition: form-data; name="video"; filename="a"\r\n\r\n'
    began = time.monotonic()
    connection = server.connect(
        head("POST", route, kind, "content-length: 30000000", key=None) + begin + clip()
    )
    status, _, body = answer(connection)
    took = time.monotonic() - began
    assert (status, error_code(body)) == (401, "invalid_api_key")
    assert decoders(server) == 0
    after(f"401 after {1000 * took:.0f} ms, with 30 MB still to come")


@pytest.mark.attack("the video of another key is edited or extended", "there were no such routes")
def test_video_of_another_key_is_no_source(tmp_path: Path, after: Report) -> None:
    with attacked(tmp_path) as server, httpx.Client(base_url=server.url, timeout=30) as http:
        theirs = {"authorization": "Bearer key-b"}
        made = http.post("/v1/videos/sync", json={"prompt": "x"}, headers=theirs)
        assert made.status_code == 200
        for route in ROUTES:
            replies = [
                http.post(
                    route,
                    json={"prompt": "x", "video": {"id": video_id}},
                    headers={"authorization": "Bearer key-a"},
                )
                for video_id in (made.headers["x-video-id"], "video_0")
            ]
            assert [reply.status_code for reply in replies] == [404, 404]
            error, unknown = (reply.json()["error"] for reply in replies)
            assert error.keys() == unknown.keys()
            assert (error["param"], error["code"]) == ("video", "not_found")
            assert (
                error["message"].replace(made.headers["x-video-id"], "video_0")
                == (unknown["message"])
            )
    after("404, as for an id that does not exist")


@pytest.mark.attack("40 uploads of videos at once", "there were no uploads of videos")
def test_few_videos_are_decoded_at_a_time(server: Attacked, after: Report) -> None:
    video, most, done = clip(200, (640, 480)), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, decoders(server))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(40) as pool:
            replies = [*pool.map(lambda _: post(server, video), range(40))]
    finally:
        done.set()
        watcher.join()
    statuses = [reply.status_code for reply in replies]
    assert set(statuses) <= {200, 503}
    assert {reply.json()["error"]["code"] for reply in replies if reply.status_code == 503} <= {
        "server_busy"
    }
    assert 1 <= most <= 2
    assert server.answers()
    after(f"{most} decoders at most; {statuses.count(200)} accepted, {statuses.count(503)} get 503")


@pytest.mark.attack("a video that is uploaded slowly", "there were no uploads of videos")
def test_slow_upload_of_a_video_ends(tmp_path: Path, after: Report) -> None:
    with attacked(tmp_path, "--body-timeout-s", "2") as server:
        kind = "content-type: multipart/form-data; boundary=x"
        begin = b'--x\r\ncontent-disposition: form-data; name="video"; filename="a"\r\n\r\n'
        connection = server.connect(
            head("POST", EDITS, kind, "content-length: 1000000") + begin + clip()[:100]
        )
        began = time.monotonic()
        status, _, body = answer(connection)
        took = time.monotonic() - began
        assert (status, error_code(body)) == (408, "request_timeout")
        assert decoders(server) == 0
    after(f"408 after {took:.0f} s, nothing decoded")
