"""The comparison with sglang: its table, its requests, and what it counts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import imageio.v3 as iio
import numpy as np
import psutil
import pytest

from bench import sglang
from bench.lib.http_videos import Side, Timed, cpu_seconds, make_video, request_body, suspended
from bench.sglang import CACHED, EXACT, HEADER, SGLANG, rows_of
from pipeline.errors import GenerationError
from tests.conftest import SHAPES

FRAMES = np.full((3, 16, 16, 3), 128, np.uint8)


class Api(BaseHTTPRequestHandler):
    """A server whose videos are finished at the second poll."""

    bodies: list[dict[str, object]]
    polls: int
    end: str

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._send({"id": "x", "status": "queued"})

    def do_GET(self) -> None:
        if self.path.endswith("/content"):
            self._answer(
                iio.imwrite("<bytes>", FRAMES, extension=".mp4", plugin="pyav", codec="h264")
            )
            return
        type(self).polls += 1
        status = self.end if self.polls == 2 else "in_progress"
        self._send({"id": "x", "status": status, "error": {"message": "no memory"}})

    def _send(self, answer: dict[str, object]) -> None:
        self._answer(json.dumps(answer).encode())

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[tuple[str, type[Api]]]:
    handler = type("Handler", (Api,), {"bodies": [], "polls": 0, "end": "completed"})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


@pytest.fixture
def child() -> Iterator[int]:
    """A process that computes."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process.pid
        process.kill()


def test_video_is_polled_and_downloaded(api: tuple[str, type[Api]], child: int) -> None:
    url, handler = api
    video = make_video(Side(url, child, {"step_cache": "1.5x"}), {"prompt": "x", "seed": 1})
    assert handler.bodies == [{"prompt": "x", "seed": 1, "step_cache": "1.5x"}]
    assert handler.polls == 2
    assert video.frames.shape == FRAMES.shape
    assert video.seconds > 0.02


def test_failed_video_is_an_error(api: tuple[str, type[Api]], child: int) -> None:
    url, handler = api
    handler.end = "failed"
    with pytest.raises(GenerationError, match="no memory"):
        make_video(Side(url, child, {}), {"prompt": "x"})


def test_requests_have_the_defaults_of_the_checkpoint() -> None:
    assert request_body(SHAPES, 7) == {
        "size": "64x64", "num_frames": 17, "fps": 8, "num_inference_steps": 7,
        "guidance_scale": 4.0, "negative_prompt": "", "flow_shift": 5.0,
    }  # fmt: skip


def test_cpu_of_children_counts_and_a_suspended_child_uses_none(child: int) -> None:
    own = psutil.Process().pid
    before = cpu_seconds(own)
    while cpu_seconds(own) < before + 0.05:
        time.sleep(0.01)
    with suspended([child]):
        while psutil.Process(child).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        stopped = cpu_seconds(child)
        time.sleep(0.05)
        assert cpu_seconds(child) == stopped
    while cpu_seconds(child) == stopped:
        time.sleep(0.01)


@pytest.mark.parametrize(("ours", "verdict"), [(0.5, "yes"), (0.6, "NO")])
def test_goal_is_a_ratio_of_requests_that_follow_each_other(ours: float, verdict: str) -> None:
    # The machine becomes three times slower: the ratios stay.
    load = (1.0, 3.0, 3.0)

    def videos(seconds: float) -> list[Timed]:
        return [Timed(seconds * slower, seconds * slower, FRAMES) for slower in load]

    timed = {SGLANG: videos(1.0), EXACT: videos(ours), CACHED: videos(0.3)}
    rows = rows_of(timed, {SGLANG: 1, EXACT: 3, CACHED: 3})
    assert {len(row) for row in rows} == {len(HEADER)}
    assert [row[2] for row in rows] == ["1.00", f"{ours:.2f}", "0.30"]
    assert [row[6] for row in rows] == ["-", verdict, "yes"]
    assert rows[0][7] == "1 of 3"


def test_machine_without_sglang_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert sglang.main(["--sglang", "/nowhere/sglang"]) == 0
    assert "not installed" in capsys.readouterr().out
