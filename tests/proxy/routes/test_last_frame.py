"""``last_frame``: its forms, its file, and models that do not take it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.families import ModelInfo
from tests.proxy.conftest import Api, Opener, on_both
from tests.proxy.reference_images.test_parsing import data_url, png

URL = "/v1/videos"
FIRST, LAST = png(), png("blue")
FORMS: dict[str, dict[str, Any]] = {
    "a file": {"data": {"prompt": "x"}, "files": {"last_frame": ("x", LAST)}},
    "a data URL": {"json": {"prompt": "x", "last_frame": data_url(LAST)}},
    "an object": {"json": {"prompt": "x", "last_frame": {"image_url": data_url(LAST)}}},
    "a field of a form": {"data": {"prompt": "x", "last_frame[image_url]": data_url(LAST)}},
    "frame_images": {
        "json": {
            "prompt": "x",
            "frame_images": [{"image_url": {"url": data_url(LAST)}, "frame_type": "last_frame"}],
        }
    },
}


@pytest.fixture
def info(info: ModelInfo, request: pytest.FixtureRequest) -> ModelInfo:
    able = {"image": "optional", "last_frame": "optional"}
    return info.model_copy(update=able | getattr(request, "param", {}))


async def create(api: Api, **request: Any) -> dict[str, Any]:
    answer = await api.http.post(URL, **request)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def kept(api: Api) -> int:
    keys = await api.service.store.older_than(-1)
    return sum(key.startswith("pictures/") for key in keys)


@on_both
async def test_each_form_gives_triton_the_same_file(serve: Opener) -> None:
    async with serve() as api:
        for request in FORMS.values():
            video = await create(api, **request)
            assert (await api.wait(video["id"]))["status"] == "completed"
            assert await kept(api) == 1
            await api.http.delete(f"{URL}/{video['id']}")
        assert [each.last_frame for each in api.triton.inputs] == [LAST] * len(FORMS)
        assert await api.service.store.older_than(-1) == []


async def test_first_and_last_frame_go_together_and_are_kept_by_a_remix(serve: Opener) -> None:
    frames = [
        {"image_url": {"url": data_url(LAST)}, "frame_type": "last_frame"},
        {"image_url": {"url": data_url(FIRST)}, "frame_type": "first_frame"},
    ]
    files = {"input_reference": ("a.png", FIRST), "last_frame": ("b.png", LAST)}
    async with serve() as api:
        for request in (
            {"json": {"prompt": "x", "frame_images": frames}},
            {"data": {"prompt": "x", "frame_images": json.dumps(frames)}},
            {"data": {"prompt": "x"}, "files": files},
        ):
            video = await create(api, **request)
            await api.wait(video["id"])
            remix = await api.http.post(f"{URL}/{video['id']}/remix", json={"prompt": "y"})
            await api.http.delete(f"{URL}/{video['id']}")
            await api.wait(remix.json()["id"])
        assert [(each.image, each.last_frame) for each in api.triton.inputs] == [(FIRST, LAST)] * 6


async def test_two_large_images_are_accepted_in_each_encoding(serve: Opener) -> None:
    """Three megabytes each, where all other text of a body may have one."""
    first, last = (image + bytes(2 << 20) for image in (FIRST, LAST))
    fields = {"input_reference": data_url(first), "last_frame": data_url(last)}
    frames = [
        {"image_url": {"url": fields["input_reference"]}},
        {"image_url": {"url": fields["last_frame"]}, "frame_type": "last_frame"},
    ]
    async with serve() as api:
        for request in (
            {"json": {"prompt": "x", **fields}},
            {"json": {"prompt": "x", "frame_images": frames}},
            {"data": {"prompt": "x", **fields}},
            {"files": {"prompt": (None, "x"), "frame_images": (None, json.dumps(frames))}},
        ):
            await api.wait((await create(api, **request))["id"])
        assert [(each.image, each.last_frame) for each in api.triton.inputs] == [(first, last)] * 4


async def test_idempotency_key_tells_first_and_last_frame_apart(serve: Opener) -> None:
    async with serve() as api:
        headers = {"idempotency-key": "once"}
        for field, status in (("last_frame", 200), ("last_frame", 200), ("input_reference", 409)):
            body = {"prompt": "x", field: data_url(LAST)}
            answer = await api.http.post(URL, headers=headers, json=body)
            assert answer.status_code == status


@pytest.mark.parametrize("info", [{"last_frame": "refused"}], indirect=True)
async def test_model_that_cannot_do_it_refuses_it_under_its_name(serve: Opener) -> None:
    async with serve() as api:
        body = {"prompt": "x", "last_frame": "data:nonsense"}
        error = (await api.http.post(URL, json=body)).json()["error"]
        assert (error["param"], error["code"]) == ("last_frame", "unsupported_value")
        assert (await api.http.get("/v1/models")).json()["data"][0]["video"]["last_frame"] == (
            "refused"
        )


@pytest.mark.parametrize("info", [{"last_frame": "required"}], indirect=True)
async def test_model_between_two_images_requires_it(serve: Opener) -> None:
    async with serve() as api:
        error = (await api.http.post(URL, json={"prompt": "x"})).json()["error"]
        assert (error["param"], error["code"]) == ("last_frame", "missing_required_parameter")


@pytest.mark.parametrize(
    "value",
    [
        "data:image/png;base64,!",
        "data:image/png;base64,AAAA",
        "ftp://x",
        {"file_id": "f"},
        7,
        [],
        "http://127.0.0.1/x",
    ],
)
async def test_unusable_image_is_refused_under_its_name(serve: Opener, value: Any) -> None:
    async with serve() as api:
        answer = await api.http.post(URL, json={"prompt": "x", "last_frame": value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "last_frame")
        assert answer.json()["error"]["message"].startswith("last_frame: ")
