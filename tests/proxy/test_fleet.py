"""Several servers on one PostgreSQL and one bucket, each with its own fake Triton."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.service import sweep
from tests.proxy.conftest import MP4, Api, Opener
from tests.waiting import async_wait_for

pytestmark = pytest.mark.parametrize("stores", ["fleet"], indirect=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.worker.POLL_S", 0.02)


async def content(api: Api, video_id: str) -> Any:
    return await api.http.get(f"/v1/videos/{video_id}/content")


async def test_any_server_answers_for_any_job(serve: Opener) -> None:
    async with serve() as one, serve() as other:
        await one.lose_triton()
        created = [(await one.create(prompt=f"{number}"))["id"] for number in range(5)]
        for video_id in created:
            assert (await one.wait(video_id))["status"] == "completed"
            answers = [await content(api, video_id) for api in (one, other)]
            assert [(a.status_code, a.content, a.headers["etag"]) for a in answers] == [
                (200, MP4, answers[0].headers["etag"])
            ] * 2
        assert (one.triton.made, other.triton.made) == (
            [],
            [f"{number}" for number in range(5)],
        )
        listed = (await other.http.get("/v1/videos")).json()["data"]
        assert [video["id"] for video in listed] == created[::-1]
        assert (await other.http.delete(f"/v1/videos/{created[0]}")).status_code == 200
        assert (await content(one, created[0])).status_code == 404


async def test_two_servers_share_the_work(serve: Opener) -> None:
    async with serve() as one, serve() as other:
        # Each holds its first job until both have one: otherwise one might make them all.
        for api in (one, other):
            api.triton.gate.clear()
        made = [
            (await api.create(prompt=f"{number}"))["id"]
            for number in range(10)
            for api in (one, other)
        ]

        async def both_work() -> bool:
            return (await one.service.jobs.counts())["in_progress"] == 2

        await async_wait_for(both_work, 10)
        for api in (one, other):
            api.triton.gate.set()
        for video_id in made:
            assert (await one.wait(video_id))["status"] == "completed"
        assert len(one.triton.made + other.triton.made) == len(made)
        assert one.triton.made
        assert other.triton.made


@pytest.mark.parametrize("how", ["delete", "cancel"])
async def test_cancel_through_one_server_stops_the_worker_of_another(
    serve: Opener, how: str
) -> None:
    async with serve() as one, serve() as other:
        await one.lose_triton()
        other.triton.gate.clear()
        video_id = (await one.create())["id"]
        await one.wait(video_id, "in_progress")
        if how == "delete":
            assert (await one.http.delete(f"/v1/videos/{video_id}")).status_code == 200
        else:
            assert (await one.http.post(f"/v1/videos/{video_id}/cancel")).json()[
                "status"
            ] == "failed"
        await async_wait_for(lambda: other.triton.stopped)
        other.triton.gate.set()
        await one.wait((await one.create(prompt="the next"))["id"], "completed")
        assert (other.triton.stopped, other.triton.made) == (["a red circle"], ["the next"])


async def test_sweep_keeps_the_files_of_other_servers(serve: Opener) -> None:
    async with serve() as one, serve() as other:
        await one.lose_triton()
        video_id = (await one.create())["id"]
        await one.wait(video_id)
        context = one.service
        await sweep(context.jobs, context.store, orphan_age_s=-1)
        assert (await content(other, video_id)).content == MP4
