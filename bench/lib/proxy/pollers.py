"""Clients that poll and follow a video. Each is a plain socket, so that it costs less than the
server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

FINISHED = ("completed", "failed")


class Poller:
    """A connection that sends one GET after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> dict[str, Any]:
        """Return the JSON of the answer. Raises ``RuntimeError`` for another status than 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        body = await self._reader.readexactly(int(length))
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"GET {path}: {head.partition(chr(13))[0]}")
        return json.loads(body)

    async def follow(self, path: str) -> None:
        """Read an event stream to its end."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
        while data := await self._reader.read(1 << 16):
            if data.endswith(b"0\r\n\r\n"):
                return


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Poller]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Poller(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def get_repeatedly(url: str, path: str, count: int) -> None:
    """Send ``count`` GETs, one after another, on one connection."""
    async with connected(url) as poller:
        for _ in range(count):
            await poller.get(path)


async def watch(url: str, video_id: str, pollers: int, pace_s: float, streams: int) -> int:
    """Poll and follow a video until it is finished. Return the number of polls."""
    path, polls, done = f"/v1/videos/{video_id}", 0, asyncio.Event()

    async def poll(number: int) -> None:
        nonlocal polls
        async with connected(url) as poller:
            await asyncio.sleep(pace_s * number / pollers)
            while not done.is_set():
                status = (await poller.get(path))["status"]
                polls += 1
                if status in FINISHED:
                    done.set()
                await asyncio.sleep(pace_s)

    async def follow() -> None:
        async with connected(url) as poller:
            await poller.follow(f"{path}/events")

    await asyncio.gather(*map(poll, range(pollers)), *(follow() for _ in range(streams)))
    return polls
