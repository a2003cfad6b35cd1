"""What polling costs: CPU seconds of a GET, and seconds of a video beside many clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import psutil

from bench.lib.proxy.overhead import PROMPT
from bench.lib.proxy.pollers import connected, get_repeatedly, watch

WARM_UP_GETS, WATCH_S = 200, 1.0


@dataclass(frozen=True)
class Crowd:
    """Clients that watch one video."""

    pollers: int
    pace_s: float
    streams: int

    def __str__(self) -> str:
        streams = f" and {self.streams} event streams" if self.streams else ""
        return f"{self.pollers} pollers every {self.pace_s * 1000:g} ms{streams}"


ALONE = Crowd(1, WATCH_S, 0)
CROWDS = (Crowd(8, 0.01, 0), Crowd(100, 1.0, 50))


@dataclass(frozen=True)
class Watched:
    """Seconds from the start of a video to its end, and CPU seconds of the server meanwhile."""

    seconds: float
    cpu_s: float


def cpu_per_get(url: str, pid: int, path: str, count: int) -> float:
    """Return the CPU seconds that the process ``pid`` takes for one GET."""
    asyncio.run(get_repeatedly(url, path, WARM_UP_GETS))
    before = _cpu_s(pid)
    asyncio.run(get_repeatedly(url, path, count))
    return (_cpu_s(pid) - before) / count


def watched_video(url: str, pid: int, steps: int, crowd: Crowd) -> Watched:
    """Make a video of ``steps`` steps while ``crowd`` watches it."""
    body = {"prompt": PROMPT, "seed": 1, "num_inference_steps": steps}
    before = _cpu_s(pid)
    video_id = httpx.post(f"{url}/v1/videos", json=body).raise_for_status().json()["id"]
    asyncio.run(watch(url, video_id, crowd.pollers, crowd.pace_s, crowd.streams))
    used = _cpu_s(pid) - before
    video = asyncio.run(_video(url, video_id))
    return Watched(video["inference_time_s"], used)


@contextmanager
def on_cores(cores: Set[int]) -> Iterator[None]:
    """Run this process, and those that it starts, on these cores until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _video(url: str, video_id: str) -> dict[str, Any]:
    async with connected(url) as poller:
        return await poller.get(f"/v1/videos/{video_id}")


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
