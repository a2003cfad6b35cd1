"""What `bench/proxy.py` counts, and the jobs that it stores."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bench.lib.proxy.load import percentile
from bench.lib.proxy.pollers import get_repeatedly, watch
from bench.lib.proxy.program import store_jobs
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.store import JobStore
from proxy.keys import ANYONE
from proxy.schema import Video
from proxy.settings import WorkSettings


def test_percentile_is_a_measured_value() -> None:
    times = [float(number) for number in range(100, 0, -1)]
    assert (percentile(times, 0.5), percentile(times, 0.99), percentile(times, 1.0)) == (
        51,
        100,
        100,
    )
    assert percentile([7.0], 0.99) == 7


async def test_stored_jobs_are_listed_as_videos(tmp_path: Path) -> None:
    ids = await asyncio.to_thread(store_jobs, tmp_path, 3)  # it has its own event loop

    database = await open_database(sqlite_url(tmp_path / "jobs.sqlite"))
    jobs, _ = await JobStore(database, WorkSettings()).page(ANYONE, 10, None, newest_first=False)
    assert [Video.of(job).id for job in jobs] == ids
    assert {job.status for job in jobs} == {"completed"}
    await database.close()


async def test_video_is_watched_until_it_is_finished() -> None:
    async with canned("queued", "in_progress", "in_progress", "completed") as (url, asked):
        assert await watch(url, "x", pollers=1, pace_s=0, streams=2) == 4
        assert asked == {"/v1/videos/x": 4, "/v1/videos/x/events": 2}


async def test_error_is_not_measured_as_an_answer() -> None:
    async with canned("queued") as (url, _):
        with pytest.raises(RuntimeError, match="404"):
            await get_repeatedly(url, "/elsewhere", 1)


@asynccontextmanager
async def canned(*statuses: str) -> AsyncIterator[tuple[str, Counter[str]]]:
    """A server whose video has these statuses, one at each poll, and whose streams end at once.

    Yields its address, and counts the requests by path.
    """
    asked: Counter[str] = Counter()
    opened = 0
    left, ended = list(statuses), asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).decode().split()[1]
                asked[path] += 1
                if path.endswith("/events"):
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n5\r\nevent\r\n0\r\n\r\n")
                    continue
                status = "200 OK" if path == "/v1/videos/x" else "404 Not Found"
                body = json.dumps({"status": left.pop(0)})
                head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
        writer.close()
        await writer.wait_closed()
        ended.release()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        for _ in range(opened):
            await ended.acquire()
