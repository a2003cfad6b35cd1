"""``triton-video serve`` as a separate process, with jobs that are stored already."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx

from bench.lib.ports import free_ports
from pipeline.families import SamplingParams
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.model import COMPLETED
from proxy.jobs.tables import videos
from proxy.keys import ANYONE

START_S = 60


@contextmanager
def program(
    command: Sequence[str],
    url: str,
    path: str,
    *,
    start_s: float = START_S,
    variables: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Runs the command until the block ends; begins when ``path`` is answered with 200. Yields
    its process id. ``variables`` are added to its environment.
    """
    environment = {**os.environ, **(variables or {})}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as server:
        try:
            _wait(server, url + path, start_s)
            yield server.pid
        finally:
            server.terminate()


@contextmanager
def serving(
    triton_url: str, folder: Path, database_url: str | None = None
) -> Iterator[tuple[str, int]]:
    """The address of a server in front of ``triton_url``, and its process id."""
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "cli", "serve", "--triton-url", triton_url, "--data-path",
        str(folder),
        "--port", str(port), "--no-auth", "--max-queued", "100000", "--quiet",
        *(["--database-url", database_url] if database_url else []),
    ]  # fmt: skip
    with program(command, url, "/readyz") as pid:
        yield url, pid


@contextmanager
def dict_serving() -> Iterator[tuple[str, int]]:
    """The address of a server that keeps jobs in a dict, and its process id."""
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bench.lib.proxy.dict_server", str(port)]
    with program(command, url, "/v1/videos") as pid:
        yield url, pid


def store_jobs(folder: Path, count: int, file: str = "") -> list[str]:
    """Write so many completed jobs into the folder's database; ``file`` is the key of the files
    of all.
    """
    params = SamplingParams(
        prompt="stored", height=64, width=64, num_frames=17, fps=8, seed=1
    ).model_dump_json()
    now = time.time()
    row = {
        "owner": ANYONE, "body_hash": "x", "model": "shapes", "params": params,
        "status": COMPLETED, "progress": 100,
        "created_at": now, "started_at": now, "completed_at": now, "expires_at": now + 86_400,
        "attempts": 1,
        "file": file or None,
    }  # fmt: skip
    ids = [f"video_stored{number}x{time.time_ns()}" for number in range(count)]

    async def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        database = await open_database(sqlite_url(folder / "jobs.sqlite"))
        async with database.begin() as connection:
            await connection.execute(videos.insert(), [{**row, "id": video_id} for video_id in ids])
        await database.close()

    asyncio.run(write())
    return ids


def _wait(server: subprocess.Popen[bytes], url: str, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while True:
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer")
        time.sleep(0.05)
