"""``/v1/videos/edits`` and ``/v1/videos/extensions``: sources, parameters, files and errors."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest

from pipeline.families import ModelInfo
from proxy.service import sweep
from tests.proxy.clips import clip
from tests.proxy.conftest import Api, Opener, on_both

EDITS, EXTENSIONS = "/v1/videos/edits", "/v1/videos/extensions"


@pytest.fixture
def info(info: ModelInfo, request: pytest.FixtureRequest) -> ModelInfo:
    able = {"edits": True, "extends": True, "image": "optional"}
    return info.model_copy(update=able | getattr(request, "param", {}))


def sent(video: bytes, **fields: str) -> dict[str, Any]:
    files = {"video": ("../../etc/passwd", video, "text/plain")}
    return {"data": {"prompt": "a blue circle", **fields}, "files": files}


async def post(api: Api, url: str, **request: Any) -> dict[str, Any]:
    answer = await api.http.post(url, **request)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def made(api: Api, **fields: Any) -> dict[str, Any]:
    """Return a completed video whose file is a real one."""
    api.triton.mp4 = lambda prompt: clip(9, (64, 48))
    video = await api.create(size="64x48", num_frames=9, **fields)
    return await api.wait(video["id"], "completed")


async def kept(api: Api) -> list[str]:
    return [key for key in await api.service.store.older_than(-1) if key.startswith("pictures/")]


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()["error"]
    return answer.status_code, body["param"], body["code"]


@on_both
async def test_edit_of_an_upload_goes_to_triton_and_is_deleted_with_its_video(
    serve: Opener,
) -> None:
    async with serve() as api:
        video = await post(api, EDITS, **sent(clip(), strength="0.5", seed="7"))
        assert video["source"] == {"operation": "edit", "video_id": None}
        assert (video["size"], video["num_frames"], video["fps"]) == ("64x48", 9, 8)
        assert (await api.wait(video["id"]))["status"] == "completed"
        (inputs,) = api.triton.inputs
        assert (inputs.image, inputs.last_frame, inputs.video) == (None, None, clip())
        (params,) = api.triton.params
        assert (params.strength, params.seed, params.prompt) == (0.5, 7, "a blue circle")
        assert len(await kept(api)) == 1
        await sweep(api.service.jobs, api.service.store, orphan_age_s=-1)
        assert len(await kept(api)) == 1
        await api.http.delete(f"/v1/videos/{video['id']}")
        assert await api.service.store.older_than(-1) == []


@pytest.mark.parametrize(
    "body",
    [
        lambda video_id: {"json": {"prompt": "x", "video": {"id": video_id}}},
        lambda video_id: {"data": {"prompt": "x", "video[id]": video_id}},
        lambda video_id: {"data": {"prompt": "x", "video": json.dumps({"id": video_id})}},
        lambda video_id: {"files": {"prompt": (None, "x"), "video[id]": (None, video_id)}},
    ],
)
async def test_video_of_this_server_is_named_in_each_encoding(serve: Opener, body: Any) -> None:
    async with serve() as api:
        source = await made(api)
        api.triton.gate.clear()
        edit = await post(api, EDITS, **body(source["id"]))
        extension = await post(api, EXTENSIONS, **body(source["id"]))
        await api.http.delete(f"/v1/videos/{source['id']}")
        api.triton.gate.set()
        for video, operation in ((edit, "edit"), (extension, "extension")):
            assert video["source"] == {"operation": operation, "video_id": source["id"]}
            assert video["remixed_from_video_id"] is None
            assert (await api.wait(video["id"]))["status"] == "completed"
        assert [each.video for each in api.triton.inputs[1:]] == [clip(9, (64, 48))] * 2
        assert [params.strength for params in api.triton.params[1:]] == [0.8, None]


@pytest.mark.parametrize(
    ("fields", "total", "seconds"),
    [
        ({"seconds": "1"}, 9 + 8, "2.125"),
        ({"seconds": "2"}, 9 + 16, "3.125"),
        ({"num_frames": "5"}, 9 + 4, "1.625"),
    ],
)
async def test_length_of_an_extension_is_added_to_that_of_its_source(
    serve: Opener, fields: dict[str, str], total: int, seconds: str
) -> None:
    async with serve() as api:
        video = await post(api, EXTENSIONS, **sent(clip(), **fields))
        assert (video["num_frames"], video["seconds"]) == (total, seconds)
        done = await api.wait(video["id"])
        assert (done["status"], done["num_frames"]) == ("completed", total)


@pytest.mark.parametrize("path", [EDITS, EXTENSIONS])
async def test_size_and_fps_of_the_source_are_those_of_the_video(serve: Opener, path: str) -> None:
    async with serve() as api:
        source = clip(9, (48, 80), fps=12)
        for fields in ({}, {"size": "48x80"}, {"fps": "12"}, {"width": "48", "height": "80"}):
            video = await post(api, path, **sent(source, **fields))
            assert (video["size"], video["fps"]) == ("48x80", 12)
        for fields, param in (
            ({"size": "64x64"}, "size"),
            ({"width": "64"}, "width"),
            ({"fps": "8"}, "fps"),
        ):
            answer = await api.http.post(path, **sent(source, **fields))
            assert error(answer) == (400, param, "invalid_value")
            assert "input_video" not in answer.text
        odd = await post(api, path, **sent(clip(9, (50, 82))))
        assert odd["size"] == "48x80"


@pytest.mark.parametrize(
    ("request_of", "param", "code"),
    [
        ({"json": {"prompt": "x"}}, "video", "missing_required_parameter"),
        ({"json": {"prompt": "x", "video": None}}, "video", "missing_required_parameter"),
        ({"json": {"prompt": "x", "video": "video_1"}}, "video", "invalid_type"),
        ({"json": {"prompt": "x", "video": 7}}, "video", "invalid_type"),
        ({"json": {"prompt": "x", "video": {}}}, "video", "invalid_type"),
        ({"json": {"prompt": "x", "video": {"id": 7}}}, "video", "invalid_type"),
        ({"json": {"prompt": "x", "video": {"id": "a", "b": 1}}}, "video", "unknown_parameter"),
        ({"data": {"prompt": "x", "video": "{"}}, "video", "invalid_type"),
        (sent(b"not a video"), "video", "invalid_value"),
        (sent(b""), "video", "invalid_value"),
        (sent(clip()[:-400]), "video", "invalid_value"),
        ({"files": sent(clip())["files"]}, "prompt", "missing_required_parameter"),
        (sent(clip(), strength="0"), "strength", "invalid_value"),
        (sent(clip(), strength="1.5"), "strength", "invalid_value"),
        (sent(clip(), duration="many"), "duration", "invalid_type"),
        (sent(clip(), nonsense="1"), "nonsense", "unknown_parameter"),
        (sent(clip(), input_reference="https://example.com/x.png"), "input_reference",
         "unsupported_value"),
    ],
)  # fmt: skip
async def test_request_that_cannot_be_served_is_refused_by_field(
    serve: Opener, request_of: dict[str, Any], param: str, code: str
) -> None:
    async with serve() as api:
        assert error(await api.http.post(EDITS, **request_of)) == (400, param, code)
        assert (await api.http.get("/v1/videos")).json()["data"] == []
        assert await kept(api) == []


async def test_source_is_a_completed_video_of_the_same_key(serve: Opener) -> None:
    async with serve() as api:
        source = await made(api)
        body = {"prompt": "x", "video": {"id": source["id"]}}
        other = {"authorization": "Bearer key-b"}
        for headers, video_id in ((other, source["id"]), ({}, "video_none"), ({}, "a\0b")):
            answer = await api.http.post(
                EDITS, headers=headers, json={**body, "video": {"id": video_id}}
            )
            assert error(answer) == (404, "video", "not_found")
        api.triton.gate.clear()
        unfinished = await api.create()
        answer = await api.http.post(EDITS, json={**body, "video": {"id": unfinished["id"]}})
        assert error(answer) == (400, "video", "invalid_value")


@pytest.mark.parametrize("info", [{"edits": False, "extends": False}], indirect=True)
async def test_model_that_cannot_do_it_refuses_before_decoding(serve: Opener) -> None:
    async with serve() as api:
        for path in (EDITS, EXTENSIONS):
            answer = await api.http.post(path, **sent(b"not even a video"))
            assert error(answer) == (400, "video", "unsupported_value")
            assert "not supported; the model 'shapes'" in answer.json()["error"]["message"]


async def test_strength_is_refused_where_no_video_is_edited(serve: Opener) -> None:
    async with serve() as api:
        answer = await api.http.post(EXTENSIONS, **sent(clip(), strength="0.5"))
        assert error(answer) == (400, "strength", "unsupported_value")
        answer = await api.http.post("/v1/videos", json={"prompt": "x", "strength": 0.5})
        assert error(answer) == (400, "strength", "unsupported_value")


@pytest.mark.parametrize("name", ["video", "video_reference", "input_video"])
async def test_create_points_a_video_to_the_routes_that_take_one(serve: Opener, name: str) -> None:
    async with serve(unknown_fields="ignore") as api:
        for path in ("/v1/videos", "/v1/videos/sync"):
            answer = await api.http.post(path, json={"prompt": "x", name: {"id": "video_1"}})
            assert error(answer) == (400, name, "unsupported_value")
            assert EDITS in answer.json()["error"]["message"]


async def test_remix_of_an_edit_keeps_its_video_and_strength(serve: Opener) -> None:
    async with serve() as api:
        source = await made(api)
        edit = await post(
            api, EDITS, json={"prompt": "x", "video": {"id": source["id"]}, "strength": 0.4}
        )
        upload = await post(api, EXTENSIONS, **sent(clip(colour=9), seconds="1"))
        for video in (edit, upload):
            await api.wait(video["id"])
            remix = await post(api, f"/v1/videos/{video['id']}/remix", json={"prompt": "y"})
            assert remix["remixed_from_video_id"] == video["id"]
            assert [remix[name] for name in ("source", "seconds", "num_frames", "size")] == [
                video[name] for name in ("source", "seconds", "num_frames", "size")
            ]
            await api.http.delete(f"/v1/videos/{video['id']}")
            assert (await api.wait(remix["id"]))["status"] == "completed"
        assert [params.strength for params in api.triton.params[1:]] == [0.4, None, 0.4, None]
        videos = [each.video for each in api.triton.inputs[1:]]
        assert sorted(videos) == sorted([clip(9, (64, 48)), clip(colour=9)] * 2)


async def test_idempotency_key_tells_videos_and_operations_apart(serve: Opener) -> None:
    async with serve() as api:
        headers = {"idempotency-key": "once"}
        first, again = [
            (await api.http.post(EDITS, headers=headers, **sent(clip()))).json() for _ in range(2)
        ]
        assert first["id"] == again["id"]
        assert len(await kept(api)) == 1
        for path, video in ((EDITS, clip(colour=9)), (EXTENSIONS, clip())):
            answer = await api.http.post(path, headers=headers, **sent(video))
            assert answer.status_code == 409


async def test_refused_job_leaves_no_file(serve: Opener) -> None:
    async with serve(max_queued=1) as api:
        api.triton.gate.clear()
        while (await api.http.post(EDITS, **sent(clip()))).status_code == 200:
            pass  # one at work, one in the queue
        assert len(await kept(api)) == len((await api.http.get("/v1/videos")).json()["data"])


async def test_limits_of_the_server_apply(serve: Opener) -> None:
    async with serve(requests_per_minute=2, max_frames=5) as api:
        answers = [await api.http.post(EDITS, **sent(clip())) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 429]
        assert "--max-frames" in answers[0].json()["error"]["message"]
