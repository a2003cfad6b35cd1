"""Bounds on request bodies: size, total size, time and length; nothing is left of refused ones."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.proxy.conftest import Opener
from tests.proxy.forms import END, FILE, JSON, MULTIPART, PROMPT, URL, URLENCODED, part
from tests.proxy.live import head, live
from tests.waiting import async_wait_for


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JSON, json.dumps({"prompt": "x" * 3000}).encode()),
        (MULTIPART, part(b"prompt", b"x" * 3000) + END),
        (MULTIPART, PROMPT + part(b"input_reference", b"x" * 3000, FILE) + END),
        (URLENCODED, b"prompt=" + b"x" * 3000),
    ],
)
async def test_body_over_the_limit_is_413(serve: Opener, kind: str, content: bytes) -> None:
    """With a length, and in chunks, as Node sends streams."""
    async with serve(max_body_bytes=2048) as api, live(api.app) as site:

        async def chunks() -> Any:
            for start in range(0, len(content), 100):
                yield content[start : start + 100]

        for sent in (content, chunks()):
            answer = await site.http.post(URL, content=sent, headers={"content-type": kind})
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                413,
                "body_too_large",
            )
            assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JSON, json.dumps({"prompt": "x" * (1 << 20)}).encode()),
        (
            MULTIPART,
            part(b"prompt", b"x" * (600 << 10))
            + part(b"negative_prompt", b"x" * (600 << 10))
            + END,
        ),
        (
            MULTIPART,
            PROMPT + part(b"input_reference[image_url]", b"http://x/" + b"x" * 100_000) + END,
        ),
        (URLENCODED, b"prompt=" + b"x" * (1 << 20)),
        (URLENCODED, b"prompt=x&input_reference[image_url]=http://x/" + b"x" * (1 << 20)),
    ],
)
async def test_only_an_image_may_be_large(serve: Opener, kind: str, content: bytes) -> None:
    async with serve() as api:
        answer = await api.http.post(URL, content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert "all of it but its files may have" in answer.json()["error"]["message"]


async def test_total_size_of_held_bodies_is_bounded(serve: Opener) -> None:
    """A request counts while its body arrives or is parsed, not while it waits for its video."""
    async with serve(max_body_bytes=4096, max_held_bytes=6000) as api, live(api.app) as site:
        api.triton.gate.clear()
        prompt = {"prompt": "x" * 3500}
        waiting = [
            asyncio.create_task(site.http.post(f"{URL}/sync", json=prompt)) for _ in range(1)
        ]

        async def answered(*, refused: bool) -> httpx.Response | None:
            answer = await site.http.post(URL, json=prompt)
            return answer if (answer.status_code == 503) == refused else None

        async def queued() -> list[Any]:
            return (await api.http.get(URL)).json()["data"]

        await async_wait_for(queued)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(head("POST", URL, content_length=4000) + b" " * 3500)
        await writer.drain()
        answer = await async_wait_for(lambda: answered(refused=True), 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
        assert answer.headers["retry-after"] == "5"
        writer.close()
        await async_wait_for(lambda: answered(refused=False), 10)
        api.triton.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200]


async def test_slow_body_is_408(serve: Opener) -> None:
    async with serve(body_timeout_s=0.3) as api, live(api.app) as site:
        for kind in (JSON, MULTIPART, URLENCODED):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            sent = head("POST", URL, content_type=kind, content_length=1000)
            writer.write(sent + PROMPT)
            assert b" 408 " in await reader.readline()
            assert b'"request_timeout"' in await reader.readuntil(b"}}")
            writer.close()


async def test_chunked_form_is_accepted(serve: Opener) -> None:
    async def chunks() -> Any:
        for byte in PROMPT + END:
            yield bytes([byte])

    async with serve() as api, live(api.app) as site:
        answer = await site.http.post(URL, content=chunks(), headers={"content-type": MULTIPART})
        assert answer.status_code == 200


@pytest.mark.parametrize("kind", [JSON, MULTIPART])
async def test_aborted_upload_leaves_nothing(
    serve: Opener, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No job, no open temporary file and no server error in the log."""
    # Larger than the part that stays in memory.
    large = PROMPT + part(b"input_reference", b"x" * 3_000_000, FILE)

    with caplog.at_level(logging.WARNING):
        async with serve() as api, live(api.app) as site:
            await site.http.get(URL)
            before = open_files()
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", site.port)
                sent = head("POST", URL, content_type=kind, content_length=9_000_000)
                writer.write(sent + large)
                await writer.drain()
                writer.transport.abort()
            connections = site.server.server_state.connections
            await async_wait_for(lambda: open_files() == before and len(connections) <= 1, 10)
            assert (await site.http.get(URL)).json()["data"] == []
    assert caplog.records == []


def open_files() -> set[str]:
    """Return the temporary files that this process holds open."""
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return {
        name for name in names if name.startswith(tempfile.gettempdir()) and "(deleted)" in name
    }


@pytest.mark.parametrize(
    ("length", "status"),
    [("10", 400), ("-1", 400), ("x", 400), ("1, 2", 400), ("9" * 12, 413)],
)
async def test_wrong_content_length_is_refused(serve: Opener, length: str, status: int) -> None:
    async with serve(max_body_bytes=2048) as api, live(api.app) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        sent = head("POST", URL, content_type=MULTIPART, content_length=length)
        writer.write(sent + PROMPT * 100)
        assert f" {status} ".encode() in await reader.readline()
        writer.close()
        assert (await site.http.get(URL)).json()["data"] == []
