"""Previews of a running video are events for those who may read the video, and only in memory."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx2 as httpx
import pytest

from proxy.previews import Previews
from tests.proxy.conftest import Api, Opener
from tests.proxy.live import live
from tests.waiting import async_wait_for

FIRST, SECOND = b"RIFF....WEBP one", b"RIFF....WEBP two"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.updates.TICK_S", 0.01)


async def named_events(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Yield the name and the data of each event, as a browser's EventSource reads them."""
    name = "message"
    async for line in answer.aiter_lines():
        field, _, text = line.partition(": ")
        if field == "event":
            name = text
        elif field == "data":
            yield name, json.loads(text)
        elif line == "":
            name = "message"


async def begun(api: Api, preview: bytes = FIRST) -> str:
    """Return the id of a video that waits in its first step, of which ``preview`` is shown."""
    api.triton.gate.clear()
    api.triton.preview = preview
    video_id = (await api.create())["id"]
    await api.wait(video_id, "in_progress")
    await async_wait_for(lambda: video_id in api.service.previews._newest or None)
    return video_id


def shown(data: dict[str, str]) -> bytes:
    return base64.b64decode(data["b64_json"])


async def test_stream_shows_each_preview_between_the_states(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        video_id = await begun(api)
        url, seen = f"/v1/videos/{video_id}/events?previews=true", []
        async with site.http.stream("GET", url) as answer:
            async for name, data in named_events(answer):
                if name == "preview" and shown(data) == FIRST:
                    api.service.previews.put(video_id, SECOND)
                elif name == "preview":
                    api.triton.gate.set()
                seen.append(shown(data) if name == "preview" else data["status"])
        assert seen[:3] == ["in_progress", FIRST, SECOND]
        assert seen[-1] == "completed"
        assert api.service.previews._newest == {}


async def test_stream_without_the_parameter_has_no_previews(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        video_id = await begun(api)
        async with site.http.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            names = set()
            async for name, _ in named_events(answer):
                names.add(name)
                api.service.previews.put(video_id, SECOND)
                api.triton.gate.set()
        assert names == {"message"}


async def test_previews_are_of_one_key(serve: Opener) -> None:
    async with serve() as api:
        url = f"/v1/videos/{await begun(api)}/events?previews=true"
        for key, status in (("key-b", 404), ("wrong", 401)):
            answer = await api.http.get(url, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, b"preview" in answer.content) == (status, False)


async def test_reader_gets_only_the_newest_preview(serve: Opener) -> None:
    """A reader that does not read holds nothing but one preview, however many there are."""
    async with serve() as api:
        job = await api.app.context.videos.of_anyone(await begun(api))
        updates, previews = api.service.updates, api.service.previews
        async with aclosing(updates.follow(job, previews=True)) as jobs:
            first = await anext(jobs)
            for number in range(1000):
                previews.put(job.id, b"%d" % number)
            again = await anext(jobs)
            assert (again.id, previews.newest(job.id)) == (first.id, b"999")
            (follower,) = updates._followers
            assert not follower.changed.is_set()


@pytest.mark.parametrize("end", ["complete", "fail", "delete", "cancel"])
async def test_preview_is_forgotten_with_the_end_of_its_video(serve: Opener, end: str) -> None:
    async with serve() as api:
        video_id = await begun(api)
        if end == "fail":
            api.triton.failure = RuntimeError("broken")
        if end in ("complete", "fail"):
            api.triton.gate.set()
        elif end == "delete":
            await api.http.delete(f"/v1/videos/{video_id}")
        else:
            await api.http.post(f"/v1/videos/{video_id}/cancel")
        await async_wait_for(lambda: not api.service.previews._newest)


async def test_preview_is_not_stored(serve: Opener, tmp_path: Path) -> None:
    async with serve() as api:
        video_id = await begun(api)
        api.triton.gate.set()
        await api.wait(video_id)
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert len(files) > 2
        assert not [path for path in files if FIRST in path.read_bytes()]


def test_listener_learns_the_video_of_each_preview() -> None:
    previews, seen = Previews(), []
    previews.add_listener(seen.append)
    previews.put("a", FIRST)
    previews.put("b", SECOND)
    previews.drop("a")
    previews.drop("a")
    assert (seen, previews.newest("a"), previews.newest("b")) == (["a", "b"], None, SECOND)
