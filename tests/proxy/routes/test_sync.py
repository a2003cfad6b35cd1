"""``/v1/videos/sync``: the MP4, or the error, and the fate of the job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from pipeline.errors import GenerationError
from tests.proxy.conftest import MP4, Api, Opener
from tests.proxy.live import live
from tests.waiting import async_wait_for

PROMPT = {"prompt": "a red circle"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.updates.TICK_S", 0.01)


async def only(api: Api, *statuses: str) -> dict[str, Any]:
    """Return the only video once it has one of the statuses."""

    async def videos() -> list[dict[str, Any]]:
        return (await api.http.get("/v1/videos")).json()["data"]

    return await api.wait((await async_wait_for(videos))[0]["id"], *statuses)


@pytest.mark.parametrize(
    "sent", [{"json": PROMPT}, {"data": PROMPT}, {"files": {"prompt": (None, "a red circle")}}]
)
async def test_response_is_the_video(serve: Opener, sent: dict[str, Any]) -> None:
    async with serve() as api:
        answer = await api.http.post("/v1/videos/sync", **sent)
        assert (answer.status_code, answer.content) == (200, MP4)
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["x-request-id"].startswith("req_")
        video = (await api.http.get(f"/v1/videos/{answer.headers['x-video-id']}")).json()
        assert (video["status"], video["prompt"]) == ("completed", "a red circle")


async def test_sync_counts_against_the_rate_limit(serve: Opener) -> None:
    async with serve(requests_per_minute=1) as api:
        answers = [await api.http.post("/v1/videos/sync", json=PROMPT) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "0"


async def test_invalid_request_is_refused_as_in_create(serve: Opener) -> None:
    async with serve() as api:
        answer = await api.http.post("/v1/videos/sync", json={"prompt": "x", "size": "0x0"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")
        assert (await api.http.get("/v1/videos")).json()["data"] == []


async def test_disconnected_client_cancels(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        request = asyncio.create_task(site.http.post("/v1/videos/sync", json=PROMPT))
        await only(api, "in_progress")
        request.cancel()
        assert (await only(api))["error"]["code"] == "cancelled"
        await async_wait_for(lambda: api.triton.stopped)
        api.triton.gate.set()
        await api.wait((await api.create(prompt="the next"))["id"], "completed")
        assert (api.triton.stopped, api.triton.made) == (["a red circle"], ["the next"])


async def test_disconnected_client_cancels_a_job_of_another_process(serve: Opener) -> None:
    async with serve() as front, serve() as worker, live(front.app) as site:
        await front.lose_triton()
        worker.triton.gate.clear()
        request = asyncio.create_task(site.http.post("/v1/videos/sync", json=PROMPT))
        await only(front, "in_progress")
        request.cancel()
        assert (await only(front))["error"]["code"] == "cancelled"
        await async_wait_for(lambda: front.triton.stopped + worker.triton.stopped)


async def test_failure_has_the_code_of_the_job(serve: Opener) -> None:
    async with serve() as api:
        api.triton.failure = GenerationError("out of luck")
        answer = await api.http.post("/v1/videos/sync", json=PROMPT)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "backend_error")
        assert answer.headers["x-should-retry"] == "false"
        video = await only(api)
        assert (video["id"], video["error"]["message"]) == (
            answer.headers["x-video-id"],
            error["message"],
        )


async def test_job_timeout_is_504(serve: Opener) -> None:
    async with serve(job_timeout_s=1) as api:
        api.triton.gate.clear()
        answer = await api.http.post("/v1/videos/sync", json=PROMPT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


async def test_video_deleted_meanwhile_is_404(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        request = asyncio.create_task(api.http.post("/v1/videos/sync", json=PROMPT))
        video = await only(api, "in_progress")
        await api.http.delete(f"/v1/videos/{video['id']}")
        answer = await request
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_stopping_server_does_not_wait_for_the_video(
    serve: Opener,
) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        request = asyncio.create_task(site.http.post("/v1/videos/sync", json=PROMPT))
        await only(api, "in_progress")
        began = time.monotonic()
        site.stop()
        answer = await request
        await site.stopped()
        assert time.monotonic() - began < 10, "well before the shutdown timeout"
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "interrupted")
    async with serve() as api:
        assert (await only(api))["id"] == answer.headers["x-video-id"]


async def test_response_does_not_wait_for_the_next_poll(serve, monkeypatch) -> None:
    """Only jobs of other processes wait for the next poll."""
    monkeypatch.setattr("proxy.updates.TICK_S", 60)

    async with serve() as api, asyncio.timeout(10):
        assert (await api.http.post("/v1/videos/sync", json={"prompt": "x"})).status_code == 200
