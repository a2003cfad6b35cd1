"""The reference image of a job: stored, sent to Triton, and removed with the video."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from obstore.exceptions import GenericError
from PIL import Image

from pipeline.families import ModelInfo
from proxy.service import sweep
from proxy.video_store import VideoStore
from tests.proxy.conftest import Api, Opener

URL = "/v1/videos"


@pytest.fixture
def info(info: ModelInfo, request: pytest.FixtureRequest) -> ModelInfo:
    return info.model_copy(update={"image": getattr(request, "param", "optional")})


def png(colour: str = "red", size: tuple[int, int] = (200, 100)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def body(image: bytes, **fields: str) -> dict[str, Any]:
    return {"data": {"prompt": "x", **fields}, "files": {"input_reference": ("x.png", image)}}


async def create(api: Api, image: bytes, **fields: str) -> dict[str, Any]:
    answer = await api.http.post(URL, **body(image, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def kept(api: Api) -> list[str]:
    """Return the keys of the images in the store."""
    return [key for key in await api.service.store.older_than(-1) if key.startswith("pictures/")]


@pytest.mark.parametrize("stores", ["host", "fleet"], indirect=True)
async def test_triton_gets_the_original_file(serve: Opener) -> None:
    async with serve() as api:
        shaped, sized = await create(api, png()), await create(api, png("blue"), size="32x32")
        for video in (shaped, sized):
            assert (await api.wait(video["id"]))["status"] == "completed"
        assert sorted(api.triton.images) == sorted([png(), png("blue")])
        assert (shaped["size"], sized["size"]) == ("80x32", "32x32")
        assert len(await kept(api)) == 2
        for video in (shaped, sized):
            await api.http.delete(f"{URL}/{video['id']}")
        assert await api.service.store.older_than(-1) == []


async def test_job_of_a_lost_server_keeps_its_image(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video = await create(api, png())
    async with serve() as api:
        assert (await api.wait(video["id"]))["status"] == "completed"
        assert api.triton.images == [png()]


async def test_refused_or_repeated_request_leaves_no_image(serve: Opener) -> None:
    async with serve(max_queued=1) as api:
        api.triton.gate.clear()
        headers = {"idempotency-key": "once"}
        answers = [await api.http.post(URL, headers=headers, **body(png())) for _ in range(2)]
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = await api.http.post(URL, headers=headers, **body(png("blue")))
        assert other.status_code == 409
        while (await api.http.post(URL, **body(png()))).status_code == 200:
            pass  # one at work, one in the queue
        assert len(await kept(api)) == len((await api.http.get(URL)).json()["data"])


async def test_remix_has_its_own_copy_of_the_image(serve: Opener) -> None:
    async with serve() as api:
        source = await create(api, png())
        await api.wait(source["id"])
        api.triton.gate.clear()
        answer = await api.http.post(f"{URL}/{source['id']}/remix", json={"prompt": "y"})
        await api.http.delete(f"{URL}/{source['id']}")
        api.triton.gate.set()
        made = await api.wait(answer.json()["id"])
        assert (made["status"], made["size"]) == ("completed", source["size"])
        assert api.triton.images == [png(), png()]


@pytest.mark.parametrize("info", ["required"], indirect=True)
async def test_image_to_video_model_requires_an_image(serve: Opener) -> None:
    async with serve() as api:
        answer = await api.http.post(URL, json={"prompt": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (
            400, "input_reference", "missing_required_parameter",
        )  # fmt: skip


@pytest.mark.parametrize("failure", [GenericError("down"), OSError("no space left")])
async def test_store_outage_makes_no_job(
    serve: Opener, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    async def put_input(*_: object) -> str:
        raise failure

    monkeypatch.setattr(VideoStore, "put_input", put_input)
    async with serve() as api:
        answer = await api.http.post(URL, **body(png()))
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            503,
            "storage_unavailable",
        )
        assert (await api.http.get(URL)).json()["data"] == []


async def test_missing_image_fails_its_job(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        await create(api, png())
        video = await create(api, png("blue"))
        for key in await kept(api):
            await api.service.store.delete(key)
        api.triton.gate.set()
        failed = await api.wait(video["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_error")


async def test_sweep_removes_images_of_expired_jobs_and_orphans(
    serve: Opener,
) -> None:
    async with serve() as api:
        service = api.service
        video = await create(api, png())
        await api.wait(video["id"])
        mine = await kept(api)
        await service.store.put_input(b"of a request that died", 24)
        await sweep(service.jobs, service.store, orphan_age_s=-1)
        assert await kept(api) == mine
        assert (await api.http.get(f"{URL}/{video['id']}")).status_code == 200
