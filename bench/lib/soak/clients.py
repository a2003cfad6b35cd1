"""Clients that do at random what clients do: right things, wrong things, and half of a thing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx2 as httpx

from bench.lib.soak.ledger import DONE, Ledger, listed

POLL_S = 0.2
TIMEOUT_S = 120.0
WRONG: Sequence[tuple[str, str, dict, int]] = (
    ("POST", "/v1/videos", {"json": {"prompt": ""}}, 400),
    ("POST", "/v1/videos", {"json": {"prompt": "x", "colour": "red"}}, 400),
    ("POST", "/v1/videos", {"json": {"prompt": "x", "num_frames": 16}}, 400),
    ("POST", "/v1/videos", {"json": {"prompt": "x", "size": "4096x4096"}}, 400),
    ("POST", "/v1/videos", {"json": {"prompt": "x", "model": "none"}}, 404),
    ("POST", "/v1/videos", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    ("POST", "/v1/videos", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
    (
        "POST",
        "/v1/videos",
        {"json": {"prompt": "x", "input_reference": {"image_url": "http://127.0.0.1/"}}},
        400,
    ),
    ("GET", "/v1/videos/video_none", {}, 404),
    ("DELETE", "/v1/videos/video_none", {}, 404),
    ("GET", "/v1/videos?after=video_none", {}, 400),
    ("GET", "/nowhere", {}, 404),
    ("PUT", "/v1/videos", {}, 405),
)


class Client:
    """One client with separate connections, until ``end`` on the monotonic clock."""

    def __init__(self, url: str, ledger: Ledger, end: float, seed: int):
        self._url, self._ledger, self._end = url, ledger, end
        self._random = random.Random(seed)
        self._all: Sequence[Callable[[httpx.AsyncClient], Awaitable[None]]] = (
            self._poll, self._poll, self._follow, self._follow, self._cancel, self._delete,
            self._sync, self._leave,
            self._list, self._wrong,
        )  # fmt: skip

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT_S) as client:
            while time.monotonic() < self._end:
                try:
                    await self._random.choice(self._all)(client)
                except httpx.TransportError as error:
                    self._ledger.surprises.append(type(error).__name__)

    async def _create(self, client: httpx.AsyncClient, steps: int) -> str | None:
        prompt = f"a {self._random.choice(('red', 'blue', 'green'))} circle moves right"
        body = {"prompt": prompt, "num_inference_steps": str(steps)}
        if self._random.random() < 0.5:
            answer = await client.post("/v1/videos", data=body)
        else:
            answer = await client.post("/v1/videos", json={**body, "seed": 1})
        if not self._ledger.note("create", answer, 200):
            await asyncio.sleep(1)
            return None
        video_id = answer.json()["id"]
        self._ledger.fates[video_id] = "kept"
        return video_id

    async def _poll(self, client: httpx.AsyncClient) -> None:
        """Poll to the end, then stream all files, whole and in parts."""
        if not (video_id := await self._create(client, 2)):
            return
        while True:
            answer = await client.get(f"/v1/videos/{video_id}")
            if not self._ledger.note("poll", answer, 200):
                return
            if answer.json()["status"] in DONE:
                break
            await asyncio.sleep(POLL_S)
        for variant in ("video", "thumbnail", "spritesheet"):
            answer = await client.get(f"/v1/videos/{video_id}/content", params={"variant": variant})
            self._ledger.note("content", answer, 200)
        part = {"range": "bytes=10-99"}
        self._ledger.note(
            "range", await client.get(f"/v1/videos/{video_id}/content", headers=part), 206
        )
        beyond = {"range": "bytes=99999999-"}
        self._ledger.note(
            "range", await client.get(f"/v1/videos/{video_id}/content", headers=beyond), 416
        )
        if self._random.random() < 0.7:
            await self._remove(client, video_id)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        """Read the events, to the end or not."""
        if not (video_id := await self._create(client, 3)):
            return
        patient = self._random.random() < 0.7
        async with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            self._ledger.note("events", answer, 200)
            async for _ in answer.aiter_lines():
                if not patient:
                    break
        await self._remove(client, video_id)

    async def _cancel(self, client: httpx.AsyncClient) -> None:
        if video_id := await self._create(client, 20):
            await asyncio.sleep(self._random.uniform(0, 2))
            self._ledger.note(
                "cancel", await client.post(f"/v1/videos/{video_id}/cancel"), 200, 400
            )
            self._ledger.fates[video_id] = "cancelled"

    async def _delete(self, client: httpx.AsyncClient) -> None:
        if video_id := await self._create(client, 20):
            await asyncio.sleep(self._random.uniform(0, 2))
            await self._remove(client, video_id)

    async def _remove(self, client: httpx.AsyncClient, video_id: str) -> None:
        self._ledger.note("delete", await client.delete(f"/v1/videos/{video_id}"), 200)
        self._ledger.fates[video_id] = "deleted"

    async def _sync(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": "a red circle", "num_inference_steps": 2}
        answer = await client.post("/v1/videos/sync", json=body)
        if self._ledger.note("sync", answer, 200):
            self._ledger.fates[answer.headers["x-video-id"]] = "kept"

    async def _leave(self, client: httpx.AsyncClient) -> None:
        """Ask for a video and hang up."""
        body = {"prompt": "a red circle", "num_inference_steps": 20}
        try:
            await client.post("/v1/videos/sync", json=body, timeout=self._random.uniform(0.1, 1))
        except httpx.TimeoutException:
            self._ledger.answers["hung up"] += 1

    async def _list(self, client: httpx.AsyncClient) -> None:
        await listed(client)
        self._ledger.answers["list 200"] += 1

    async def _wrong(self, client: httpx.AsyncClient) -> None:
        method, path, body, expected = self._random.choice(WRONG)
        self._ledger.note("wrong", await client.request(method, path, **body), expected)
