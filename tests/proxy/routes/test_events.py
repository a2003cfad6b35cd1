"""Server-sent events of a video, over real sockets."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.proxy.conftest import Opener
from tests.proxy.live import events, live
from tests.waiting import async_wait_for


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.updates.TICK_S", 0.01)


async def test_stream_sends_each_state_up_to_the_last(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-request-id"].startswith("req_")
            seen = []
            async for video in events(answer):
                seen.append(video)
                if video["status"] == "in_progress":
                    api.triton.gate.set()
        assert seen[0]["status"] in ("queued", "in_progress")
        assert seen[-1] == (await site.http.get(f"/v1/videos/{video_id}")).json()
        assert [video["status"] for video in seen].count("completed") == 1
        assert all(one != other for one, other in pairwise(seen))


async def test_finished_video_is_sent_once(serve: Opener) -> None:
    async with serve() as api:
        video = await api.wait((await api.create())["id"])
        answer = await api.http.get(f"/v1/videos/{video['id']}/events")
        assert [told async for told in events(answer)] == [video]
        assert "id: completed-100\nretry: 1000" in answer.text
        names = ("content-type", "cache-control", "x-accel-buffering")
        sent = [answer.headers[name] for name in names]
        assert sent == ["text/event-stream; charset=utf-8", "no-cache", "no"]


async def test_stream_follows_a_job_of_another_process(serve: Opener) -> None:
    async with serve() as other:
        await other.lose_triton()
        async with serve() as worker, live(other.app) as site:
            worker.triton.gate.clear()
            video_id = (await worker.create())["id"]
            async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
                worker.triton.gate.set()
                assert [video["status"] async for video in events(answer)][-1] == "completed"
            assert (other.triton.made, worker.triton.made) == ([], ["a red circle"])


async def test_stream_of_another_key_is_not_found(serve: Opener) -> None:
    async with serve() as api:
        url = f"/v1/videos/{(await api.create())['id']}/events"
        for key, status, code in (
            ("key-b", 404, "not_found"),
            ("wrong", 401, "invalid_api_key"),
        ):
            answer = await api.http.get(url, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("end", ["delete", "shutdown"])
async def test_stream_ends_with_its_video_and_with_the_server(serve: Opener, end: str) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            told = events(answer)
            await anext(told)
            began = time.monotonic()
            if end == "delete":
                await api.http.delete(f"/v1/videos/{video_id}")
            else:
                site.stop()
            assert "completed" not in [video["status"] async for video in told]
        if end == "shutdown":
            await site.stopped()
        assert time.monotonic() - began < 10, "well before the shutdown timeout"


async def test_disconnected_follower_is_removed(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        followers = api.service.updates._followers
        async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            await anext(events(answer))
            assert len(followers) == 1
        await async_wait_for(lambda: not followers)


async def test_hundred_followers_cost_one_query_per_tick(
    serve: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        ids = [(await api.create())["id"] for _ in range(4)]
        asked: list[list[str]] = []
        current = api.service.jobs.current

        async def counted(video_ids: list[str]) -> Any:
            asked.append(video_ids)
            return await current(video_ids)

        monkeypatch.setattr(api.service.jobs, "current", counted)
        streams = [
            asyncio.create_task(api.http.get(f"/v1/videos/{ids[number % 4]}/events"))
            for number in range(100)
        ]
        await async_wait_for(lambda: len(api.service.updates._followers) == 100)
        asked.clear()
        await api.wait(ids[0], "in_progress")
        api.triton.gate.set()
        for answer in await asyncio.gather(*streams):
            assert '"status":"completed"' in answer.text
        assert all(len(names) == len(set(names)) <= 4 for names in asked)


async def test_idle_stream_is_kept_alive(serve: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.routes.events.PING_S", 0.05)

    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        await api.wait(video_id, "in_progress")
        async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            async for line in answer.aiter_lines():
                if line == ": ping":
                    break
            else:
                pytest.fail("the stream ended without a ping")
