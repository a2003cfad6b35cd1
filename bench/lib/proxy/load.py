"""Many clients at once: each polls a job at the pace that the server asks for, while others
create jobs.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import httpx2 as httpx


@dataclass
class Latencies:
    """Seconds of each request."""

    create: list[float] = field(default_factory=list)
    get: list[float] = field(default_factory=list)


def percentile(times: list[float], share: float) -> float:
    """The time within which this share of the requests was answered."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def load(url: str, pollers: int, seconds: float, pace_s: float, creates_per_s: float) -> Latencies:
    """Return what ``pollers`` clients saw, each on a separate connection."""
    return asyncio.run(_load(url, pollers, seconds, pace_s, creates_per_s))


async def _load(
    url: str, pollers: int, seconds: float, pace_s: float, creates_per_s: float
) -> Latencies:
    seen, end = Latencies(), time.monotonic() + seconds
    async with httpx.AsyncClient(
        base_url=url, limits=httpx.Limits(max_connections=pollers + 8), timeout=60
    ) as client:
        job = await _create(client, Latencies())

        async def poll(number: int) -> None:
            await asyncio.sleep(pace_s * number / pollers)
            while time.monotonic() < end:
                begin = time.perf_counter()
                (await client.get(f"/v1/videos/{job}")).raise_for_status()
                seen.get.append(time.perf_counter() - begin)
                await asyncio.sleep(pace_s)

        async def create() -> None:
            while time.monotonic() < end:
                await _create(client, seen)
                await asyncio.sleep(1 / creates_per_s)

        await asyncio.gather(create(), *(poll(number) for number in range(pollers)))
    return seen


async def _create(client: httpx.AsyncClient, seen: Latencies) -> str:
    begin = time.perf_counter()
    answer = await client.post(
        "/v1/videos", data={"prompt": "a red circle", "num_inference_steps": "200"}
    )
    seen.create.append(time.perf_counter() - begin)
    return answer.raise_for_status().json()["id"]
