"""The routes of the Videos API, over HTTP against the whole application."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.errors import GenerationError, ServerError
from tests.proxy.conftest import MP4, Opener, on_both
from tests.waiting import async_wait_for

KEYS = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at",
    "prompt", "size",
    "seconds", "remixed_from_video_id", "error",
}  # fmt: skip


@on_both
async def test_prompt_alone_makes_a_video(serve: Opener) -> None:
    async with serve() as api:
        created = await api.create()
        assert created.keys() >= KEYS
        assert (created["status"], created["progress"], created["object"]) == (
            "queued",
            0,
            "video",
        )
        assert (created["size"], created["seconds"], created["model"]) == (
            "64x64",
            "2.125",
            "shapes",
        )
        done = await api.wait(created["id"])
        assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
        assert done["expires_at"] > done["completed_at"] >= done["created_at"]
        content = await api.http.get(f"/v1/videos/{created['id']}/content")
        assert (content.content, content.headers["content-type"]) == (MP4, "video/mp4")


@on_both
async def test_peak_memory_is_what_triton_reports(serve: Opener) -> None:
    async with serve() as api:
        created = await api.create()
        assert created["peak_memory_mb"] is None
        assert (await api.wait(created["id"]))["peak_memory_mb"] is None, "it is not known"
        api.triton.peak_memory_bytes = 5 << 29
        video = await api.wait((await api.create())["id"])
        assert video["peak_memory_mb"] == 2560.0


@on_both
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_list_every_job_once(serve: Opener, order: str) -> None:
    async with serve() as api:
        api.triton.up = False
        made = [(await api.create())["id"] for _ in range(45)]
        seen, after = [], None
        while True:
            params = {"limit": 10, "order": order} | ({"after": after} if after else {})
            page = (await api.http.get("/v1/videos", params=params)).json()
            seen += [video["id"] for video in page["data"]]
            assert (page["first_id"], page["last_id"]) == (
                page["data"][0]["id"],
                page["data"][-1]["id"],
            )
            if not page["has_more"]:
                break
            after = page["last_id"]
        assert seen == (made if order == "asc" else made[::-1])


@pytest.mark.parametrize(
    "query",
    ["limit=101", "limit=-1", f"limit={'9' * 5000}", "limit=x", "order=up", "after=video_none"],
)
async def test_invalid_list_parameter_is_named(serve: Opener, query: str) -> None:
    async with serve() as api:
        answer = await api.http.get(f"/v1/videos?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (
            400,
            query.partition("=")[0],
        )


@on_both
async def test_key_sees_its_own_videos_only(serve: Opener) -> None:
    async with serve() as api:
        video_id = (await api.create())["id"]
        for headers in (
            {"authorization": "Bearer wrong"},
            {"authorization": ""},
            {"authorization": "Basic key-a"},
        ):
            answer = await api.http.get("/v1/videos", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                401,
                "invalid_api_key",
            )
        other = {"authorization": "Bearer key-b"}
        assert (await api.http.get(f"/v1/videos/{video_id}", headers=other)).status_code == 404
        assert (await api.http.delete(f"/v1/videos/{video_id}", headers=other)).status_code == 404
        assert (await api.http.get("/v1/videos", headers=other)).json()["data"] == []
        for open_to_all in ("/livez", "/readyz", "/health"):
            assert (
                await api.http.get(open_to_all, headers={"authorization": ""})
            ).status_code == 200


@on_both
async def test_deleted_job_stops(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        await api.wait(video_id, "in_progress")
        answer = await api.http.delete(f"/v1/videos/{video_id}")
        assert answer.json() == {"id": video_id, "object": "video.deleted", "deleted": True}
        assert (await api.http.delete(f"/v1/videos/{video_id}")).status_code == 404
        api.triton.gate.set()
        await api.wait((await api.create(prompt="the next"))["id"], "completed")
        assert (api.triton.stopped, api.triton.made) == (["a red circle"], ["the next"])


@on_both
async def test_cancelled_job_keeps_its_record(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        running, waiting = [(await api.create())["id"] for _ in range(2)]
        await api.wait(running, "in_progress")
        for video_id in (waiting, running):
            cancelled = (await api.http.post(f"/v1/videos/{video_id}/cancel")).json()
            assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
        assert (await api.http.post(f"/v1/videos/{waiting}/cancel")).status_code == 400
        api.triton.gate.set()
        await api.wait((await api.create(prompt="the next"))["id"], "completed")
        assert api.triton.made == ["the next"]


@on_both
async def test_failed_job_reports_its_error(serve: Opener) -> None:
    async with serve() as api:
        api.triton.failure = GenerationError("no such file: /secret/path")
        video_id = (await api.create())["id"]
        failed = await api.wait(video_id)
        assert failed["error"] == {
            "code": "backend_error",
            "message": "The model failed at this request.",
        }
        assert failed["progress"] < 100
        answer = await api.http.get(f"/v1/videos/{video_id}/content")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "backend_error")


async def test_jobs_wait_while_triton_is_down(serve: Opener) -> None:
    """A job of that time waits, and is made after Triton is back."""
    async with serve() as api:
        api.triton.up = False

        async def unready() -> bool:
            return (await api.http.get("/readyz")).status_code != 200

        await async_wait_for(unready)
        video_id = (await api.create())["id"]
        await asyncio.sleep(0.1)
        assert (await api.wait(video_id, "queued"))["status"] == "queued"
        api.triton.up = True
        assert (await api.wait(video_id))["status"] == "completed"


@on_both
async def test_lost_triton_costs_one_attempt(serve: Opener) -> None:
    async with serve(max_attempts=2) as api:
        api.triton.failure = ServerError("lost")
        failed = await api.wait((await api.create())["id"])
        assert failed["error"]["code"] == "interrupted"
        assert len(api.triton.stopped) == 2
        api.triton.gate.clear()
        second = (await api.create())["id"]
        await api.wait(second, "in_progress")
        api.triton.failure = None
        api.triton.gate.set()
        assert (await api.wait(second))["status"] == "completed"


@on_both
async def test_content_is_not_ready_first_and_then_has_ranges(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        url = f"/v1/videos/{video_id}/content"
        early = await api.http.get(url)
        assert (early.status_code, early.json()["error"]["message"][:22]) == (
            404,
            "Video is not ready yet",
        )
        api.triton.gate.set()
        await api.wait(video_id)
        whole = await api.http.head(url)
        assert (whole.status_code, whole.content, int(whole.headers["content-length"])) == (
            200,
            b"",
            len(MP4),
        )
        for header, piece in (
            ("bytes=0-9", MP4[:10]),
            ("bytes=10-", MP4[10:]),
            ("bytes=-5", MP4[-5:]),
        ):
            part = await api.http.get(url, headers={"range": header})
            assert (part.status_code, part.content) == (206, piece)
        assert (await api.http.get(url, headers={"range": f"bytes={len(MP4)}-"})).status_code == 416
        etag = whole.headers["etag"]
        assert (await api.http.get(url, headers={"if-none-match": etag})).status_code == 304
        assert (await api.http.get(url, params={"variant": "audio"})).json()["error"][
            "param"
        ] == "variant"


@on_both
async def test_remix_keeps_all_but_the_prompt(serve: Opener) -> None:
    async with serve() as api:
        source = await api.create(size="32x48", num_frames=5, guidance_scale=2.5)
        await api.wait(source["id"])
        answer = await api.http.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "blue"})
        remix = answer.json()
        assert remix["remixed_from_video_id"] == source["id"]
        assert [remix[k] for k in ("model", "size", "seconds", "prompt")] == [
            "shapes",
            "32x48",
            "0.625",
            "blue",
        ]


@on_both
async def test_stopped_server_requeues_its_job(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        running, waiting = [(await api.create())["id"] for _ in range(2)]
        await api.wait(running, "in_progress")
    async with serve() as api:
        assert [(await api.wait(i))["status"] for i in (running, waiting)] == [
            "completed",
            "completed",
        ]


async def test_unknown_routes_and_methods_have_the_error_shape(serve: Opener) -> None:
    async with serve() as api:
        for method, url, status in (("GET", "/v1/nothing", 404), ("PUT", "/v1/videos", 405)):
            answer = await api.http.request(method, url)
            assert (answer.status_code, answer.json()["error"].keys()) == (
                status,
                {"message", "type", "param", "code"},
            )
            assert answer.headers["x-request-id"].startswith("req_")
