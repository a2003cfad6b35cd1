"""Input videos are decoded in a process that may do little, and that may fail."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.families import Clip
from proxy.errors import ApiError
from proxy.input_videos import InputVideo, InputVideos, video_source
from proxy.uploads import Spool, Upload
from tests.proxy.clips import clip
from tests.waiting import async_wait_for

ROOT = Path(__file__).resolve().parents[2]


async def read(data: bytes) -> InputVideo:
    with closing(Spool()) as spool:
        await spool.write(data)
        return await InputVideos().read(Upload(spool.file))


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let ``program`` describe the videos."""
    command = [sys.executable, "-c", program]
    monkeypatch.setattr("proxy.input_videos.command", lambda module: command)


async def refusal(data: bytes = b"x") -> dict[str, Any]:
    with pytest.raises(ApiError) as caught:
        await read(data)
    return {"status": caught.value.status, **caught.value.body["error"]}  # pyright: ignore


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "matroska")]
)
async def test_video_is_described_and_hashed(codec: str, container: str) -> None:
    data = clip(9, (64, 48), 8, codec=codec, container=container)
    videos = [await read(data) for _ in range(2)]
    assert [video.clip for video in videos] == [Clip(64, 48, 9, 8)] * 2
    assert [video.size for video in videos] == [len(data)] * 2
    assert len({video.digest for video in videos}) == 1
    assert len(videos[0].digest) == 64


async def test_larger_file_than_is_allowed_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.input_videos.MAX_VIDEO_BYTES", len(clip()) - 1)
    runs(monkeypatch, "raise SystemExit('not to be run')")
    assert (await refusal(clip()))[
        "message"
    ] == f"video: a video has at most {len(clip()) - 1} bytes."


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.kill(os.getpid(), 11)",
        "raise MemoryError",
        "import sys; sys.stdout.write('{')",
        "",
    ],
)
async def test_decoder_that_crashes_fails_the_request_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    runs(monkeypatch, program)
    with caplog.at_level(logging.WARNING, "proxy.input_videos"):
        error = await refusal()
    assert (error["status"], error["param"]) == (400, "video")
    assert "cannot be decoded" in error["message"]
    assert "exit code" in caplog.text


async def test_decoder_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.input_videos.PROBE_S", 0.2)
    runs(monkeypatch, "import time; time.sleep(600)")
    assert "takes too long" in (await refusal())["message"]
    assert not any("time.sleep(600)" in " ".join(p.cmdline()) for p in psutil.Process().children())


async def test_decoder_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_VIDEO_API_KEYS", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    runs(monkeypatch, "import json, os; print(json.dumps({'refused': str(dict(os.environ))}))")
    assert "secret" not in (await refusal())["message"]


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        ("open('/etc/passwd')", "Too many open files"),
        ("import socket; socket.socket()", "Too many open files"),
        ("bytearray(8 << 30)", "MemoryError"),
    ],
)
def test_decoder_opens_nothing_and_has_little_memory(attempt: str, error: str) -> None:
    program = f"import socket; from proxy.video_probe import limit; limit(); {attempt}"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\ntry:\n    {program}\nexcept BaseException as e:\n"
         "    sys.exit(repr(e))"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert error in ended.stderr


async def test_only_so_many_videos_are_decoded_and_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.input_videos.MAX_WAITING", 3)
    running, most, release = 0, 0, asyncio.Event()

    async def described(_: object) -> Clip:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        return Clip(64, 48, 9, 8)

    monkeypatch.setattr("proxy.input_videos._clip", described)
    videos = InputVideos()
    tasks = [asyncio.create_task(videos.read(Upload(BytesIO(b"x")))) for _ in range(5)]
    await async_wait_for(lambda: running == 2 and sum(task.done() for task in tasks) == 2)
    done, waiting = await asyncio.wait(tasks, timeout=0.05)
    statuses = {getattr(task.exception(), "status", None) for task in done}
    assert (len(done), len(waiting), statuses, most) == (2, 3, {503}, 2)
    release.set()
    assert len(await asyncio.gather(*waiting)) == 3
    assert (await videos.read(Upload(BytesIO(b"x")))).clip.num_frames == 9


async def test_file_is_decoded_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(
        monkeypatch,
        "import json, sys; print(json.dumps({'refused': sys.stdin.read()}))",
    )
    assert "from the start" in (await refusal(b"from the start"))["message"]


def test_id_is_read_from_an_object_or_its_text() -> None:
    assert video_source({"id": "a"}) == video_source(' {"id": "a"}') == "a"
