"""A Triton behind ``--triton-url`` that means harm: a real gRPC server, which both clients call."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from pipeline.client import Preview, Progress, Video, VideoClient, answers, messages
from pipeline.client import aio as aio_client
from pipeline.client import blocking as blocking_client
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import GenerationError, ServerError, TritonVideoError
from pipeline.families import ModelInfo, SamplingParams
from proxy.app import create_app
from proxy.settings import ProxySettings
from tests.conftest import SHAPES
from tests.security.hostile_triton import (
    MP4,
    WEBP,
    Behaviour,
    Response,
    blob,
    hostile,
    made,
    progress,
    tensors,
    video,
)

Report = Callable[[str], None]


def run(coroutine: Coroutine[Any, Any, Any], limit_s: float = 30) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, limit_s))


def text(value: bytes) -> tuple[str, list[int], bytes]:
    return "BYTES", [1], blob(value)


@pytest.fixture(autouse=True)
def _short_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_client, "DRAIN_S", 0.3)
    monkeypatch.setattr(blocking_client, "DRAIN_S", 0.3)


async def generated(url: str) -> list[Progress | Preview | Video]:
    async with AsyncVideoClient(url) as client:
        return [event async for event in client.generate(SamplingParams(prompt="x"), job_id="1")]


def generated_blocking(url: str) -> list[Progress | Video]:
    with VideoClient(url) as client:
        return list(client.generate(SamplingParams(prompt="x")))


def silent(context: Any) -> Iterator[Any]:
    while context.is_active():
        time.sleep(0.05)
    yield from ()


def endless(response: Any) -> Callable[[Any], Iterator[Any]]:
    def stream(context: Any) -> Iterator[Any]:
        while context.is_active():
            yield response

    return stream


def nan() -> bytes:
    return made().replace(b'"guidance_scale": 1.0', b'"guidance_scale": NaN')


def preview(side: int) -> bytes:
    """Return the beginning of a lossy WebP file of ``side`` x ``side`` pixels."""
    frame = b"\x50\0\0\x9d\x01\x2a" + struct.pack("<2H", side, side) + bytes(8)
    return b"RIFF\x22\0\0\0WEBPVP8 " + struct.pack("<I", len(frame)) + frame


MALFORMED = {
    "no RESULT": [tensors(VIDEO=text(MP4))],
    "RESULT is not JSON": [video(RESULT=text(b"{"))],
    "RESULT is huge": [video(RESULT=text(b" " * 100_000))],
    "a height of 10^30": [video(RESULT=text(made(height=10**30)))],
    "guidance that is no number": [video(RESULT=text(nan()))],
    "VIDEO of floats": [video(VIDEO=("FP32", [1], b"abcd"))],
    "VIDEO is HTML": [video(VIDEO=text(b"<html><script>"))],
    "VIDEO of 10,000 strings": [video(VIDEO=("BYTES", [10_000], blob(*[b""] * 10_000)))],
    "THUMBNAIL of a length of 4 GB": [video(THUMBNAIL=("BYTES", [1], b"\xff\xff\xff\xffRIFF"))],
    "THUMBNAIL of another shape": [video(THUMBNAIL=("BYTES", [7], blob(WEBP)))],
    "THUMBNAIL without a shape": [video(THUMBNAIL=("BYTES", [], blob(WEBP)))],
    "THUMBNAIL of an unknown type": [video(THUMBNAIL=("QUX", [1], blob(WEBP)))],
    "SPRITESHEET is no WebP": [video(SPRITESHEET=text(b"RIFF\0\0\0\0WAVE"))],
    "FRAMES of objects": [video(FRAMES=text(b"x"))],
    "FRAMES of another size": [video(FRAMES=("UINT8", [1, 1, 1, 3], b"abc"))],
    "progress of floats": [
        tensors(STAGE=text(b"denoise"), PROGRESS=("FP32", [2], struct.pack("<2f", 1, 2)))
    ],
    "progress of three": [tensors(STAGE=text(b"denoise"), PROGRESS=("INT32", [3], bytes(12)))],
    "progress backwards": [progress(-(2**31), -1), video()],
    "progress past its end": [progress(3, 2), video()],
    "progress of two billion": [progress(1, 2**31 - 1), video()],
    "a stage with a name of its own": [progress(1, 2, b"x" * 50), video()],
    "a stage that is not UTF-8": [progress(1, 2, b"\xff"), video()],
    "no stage": [tensors(PROGRESS=("INT32", [2], bytes(8)))],
    "progress of 1 MB": [tensors(STAGE=text(bytes(1 << 20)), PROGRESS=("INT32", [2], bytes(8)))],
    "PREVIEW is HTML": [tensors(PREVIEW=text(b"<html><script>")), video()],
    "PREVIEW of 33 KiB": [tensors(PREVIEW=text(preview(64) + bytes(33 << 10))), video()],
    "PREVIEW of 268 megapixels": [tensors(PREVIEW=text(preview(16383))), video()],
    "PREVIEW without a size": [tensors(PREVIEW=text(preview(64)[:26])), video()],
    "PREVIEW of another WebP": [tensors(PREVIEW=text(WEBP)), video()],
    "PREVIEW of floats": [tensors(PREVIEW=("FP32", [1], b"abcd")), video()],
    "PREVIEW beside 1 MB": [
        tensors(PREVIEW=text(preview(64)), NOISE=text(bytes(1 << 20))),
        video(),
    ],
    "1 MB of nothing": [tensors(NOISE=text(bytes(1 << 20)))],
    "an end without a video": [],
}


@pytest.mark.attack(
    "a hostile Triton sends malformed tensors",
    "ValidationError, IndexError, struct.error out of the client; HTML stored as MP4; NaN and "
    "10^30 taken",
)
def test_malformed_answers_are_our_errors(after: Report) -> None:
    for name, responses in MALFORMED.items():
        with hostile(Behaviour(stream=lambda _, each=responses: iter(each))) as url:
            with pytest.raises(TritonVideoError) as caught:
                run(generated(url))
            assert isinstance(caught.value, GenerationError | ServerError), name
    after(f"{len(MALFORMED)} kinds are a GenerationError or ServerError")


def test_previews_are_events_of_the_asyncio_client_only() -> None:
    responses = [tensors(PREVIEW=text(preview(64))), video()]
    with hostile(Behaviour(stream=lambda _: iter(responses))) as url:
        shown, end = run(generated(url))
        assert shown == Preview(preview(64))
        assert isinstance(end, Video)
        assert [type(event) for event in generated_blocking(url)] == [Video]


def test_blocking_client_refuses_the_same_answers() -> None:
    for name in ("RESULT is not JSON", "progress backwards", "an end without a video"):
        behaviour = Behaviour(stream=lambda _, each=MALFORMED[name]: iter(each))
        with hostile(behaviour) as url, pytest.raises((GenerationError, ServerError)):
            generated_blocking(url)


def test_valid_answer_is_accepted() -> None:
    with hostile(Behaviour(stream=lambda _: iter([progress(1, 1), video()]))) as url:
        for events in (run(generated(url)), generated_blocking(url)):
            assert [type(event) for event in events] == [Progress, Video]
            assert (events[1].mp4, events[1].thumbnail, events[1].request.height) == (MP4, WEBP, 16)


@pytest.mark.attack(
    "a hostile Triton sends progress for ever", "read until the job's timeout of an hour"
)
def test_endless_progress_ends(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_RESPONSES", 200)
    with hostile(Behaviour(stream=endless(progress(1, 2)))) as url:
        for generate in (lambda: run(generated(url)), lambda: generated_blocking(url)):
            with pytest.raises(answers.MalformedAnswerError, match="more than 200 responses"):
                generate()
    after("an error after 20,000 responses")


@pytest.mark.attack(
    "a hostile Triton sends a video and never ends the stream",
    "the video was lost at the job's timeout; the command line hung for ever",
)
def test_unfinished_stream_still_delivers_its_video(after: Report) -> None:
    def stream(context: Any) -> Iterator[Any]:
        yield video()
        yield from silent(context)

    with hostile(Behaviour(stream=stream)) as url:
        began = time.monotonic()
        assert isinstance(run(generated(url))[-1], Video)
        assert isinstance(generated_blocking(url)[-1], Video)
        assert time.monotonic() - began < 10
    after("the video is kept after 20 s (5 s for the command line)")


@pytest.mark.attack(
    "a hostile Triton sends a video of 10 GB", "2 GiB a message, any number of them kept in memory"
)
def test_a_huge_video_is_refused(after: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_client, "MAX_RESPONSE_BYTES", 1 << 20)
    huge = video(VIDEO=text(MP4 + bytes(2 << 20)))
    with hostile(Behaviour(stream=endless(huge))) as url, pytest.raises(ServerError) as caught:
        run(generated(url))
    assert "RESOURCE_EXHAUSTED" in (caught.value.details or "")
    after("gRPC refuses a message of more than 512 MiB; 4 unread ones at most")


@pytest.mark.attack(
    "a hostile Triton's error forges lines of the log", "any text of any length, escape codes too"
)
def test_an_error_is_one_short_line(after: Report) -> None:
    error = Response(error_message="\x1b[2J\nERROR forged " + "x" * 1_000_000)
    with (
        hostile(Behaviour(stream=lambda _: iter([error]))) as url,
        pytest.raises(GenerationError) as caught,
    ):
        run(generated(url))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2100
    after("one printable line of 2,000 characters")


CONTROL = [
    b"", b"[]", b"{", b'{"dit": 1}', b'{"dit": {}}', b'{"dit": {"jobs": [[1]]}}', b"[" * 100_000,
    b'{"dit": {"error": {}}}', json.dumps({str(i): {"jobs": {}} for i in range(65)}).encode(),
]  # fmt: skip


@pytest.mark.attack("a hostile Triton's control model answers garbage", "the whole server ended")
async def test_garbage_of_the_control_model_ends_no_server(
    after: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.tritons.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("proxy.tritons.LONGEST_PAUSE_S", 0.02)
    behaviour = Behaviour(model=info().model_dump_json())
    settings = ProxySettings(data_path=tmp_path / "data")

    with hostile(behaviour) as url:
        app = create_app(settings, [url], ["key"])
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            for answer in CONTROL:
                behaviour.control = answer
                await asyncio.sleep(0.1)
                assert (await client.get("/readyz")).status_code == 503
            behaviour.control = b'{"dit": {"jobs": {}}}'
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            assert info().name in app.context.service.tritons.models
    after("not ready until it answers well")


def info() -> ModelInfo:
    from pipeline.checkpoint.folder import Checkpoint

    return Checkpoint.open(SHAPES).info


@pytest.mark.parametrize("model", ["", "{", "x" * 300_000, '{"name": "a"}'])
async def test_invalid_model_description_is_a_server_error(model: str) -> None:
    with (
        hostile(Behaviour(model=model)) as url,
        pytest.raises(ServerError, match="does not describe itself"),
    ):
        async with AsyncVideoClient(url) as client:
            await client.model_info()
