"""``/v1/images/generations``: images in each format, links to them, and errors."""

from __future__ import annotations

import asyncio
import base64
from io import BytesIO
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from pipeline.errors import GenerationError
from pipeline.families import SamplingParams
from tests.proxy.conftest import Api, Opener, frames_of, on_both
from tests.proxy.live import live
from tests.waiting import async_wait_for

URL = "/v1/images/generations"
PROMPT = {"prompt": "a red circle"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.updates.TICK_S", 0.01)


async def made(api: Api, **body: Any) -> dict[str, Any]:
    answer = await api.http.post(URL, json={**PROMPT, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def videos(api: Api) -> list[dict[str, Any]]:
    return (await api.http.get("/v1/videos", params={"order": "asc"})).json()["data"]


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(file)).convert("RGB"))


def expected(api: Api, video: dict[str, Any]) -> np.ndarray:
    """Return the frame that the fake Triton made."""
    width, height = map(int, video["size"].split("x"))
    values = {"width": width, "height": height, "num_frames": 1, "seed": video["seed"]}
    return frames_of(api.triton.info.resolve(SamplingParams(prompt="x", **values)))[0]


@on_both
@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
async def test_image_is_the_frame_of_its_video(serve: Opener, image_format: str) -> None:
    async with serve() as api:
        answer = await made(api, seed=7, size="64x48", output_format=image_format)
        assert (answer["size"], answer["output_format"]) == ("64x48", image_format)
        assert answer.keys() == {"created", "data", "background", "output_format", "size"}
        (image,) = answer["data"]
        file = base64.b64decode(image["b64_json"])
        assert Image.open(BytesIO(file)).format == image_format.upper()
        (video,) = await videos(api)
        assert (video["id"], video["num_frames"], video["seed"]) == (image["video_id"], 1, 7)
        wrong = np.abs(pixels(file).astype(int) - expected(api, video)).mean()
        assert wrong < 15 if image_format == "jpeg" else wrong == 0
        content = f"/v1/videos/{video['id']}/content"
        stored = await api.http.get(content, params={"variant": image_format})
        assert (stored.content, stored.headers["content-type"]) == (file, f"image/{image_format}")
        for other in {"png", "webp", "jpeg"} - {image_format}:
            refused = await api.http.get(content, params={"variant": other})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "variant")
        await api.http.delete(f"/v1/videos/{video['id']}")
        assert await api.service.store.older_than(-1) == []


async def test_images_of_a_request_have_consecutive_seeds(serve: Opener) -> None:
    async with serve() as api:
        answer = await made(api, n=4, seed=2**63 - 2)
        found = {video["id"]: video["seed"] for video in await videos(api)}
        seeds = [found[image["video_id"]] for image in answer["data"]]
        assert seeds == [2**63 - 2, 2**63 - 1, 0, 1]
        assert len({image["b64_json"] for image in answer["data"]}) == 4
        first, second = (await made(api, n=2))["data"]
        found = {video["id"]: video["seed"] for video in await videos(api)}
        assert found[second["video_id"]] - found[first["video_id"]] == 1


async def test_link_needs_no_key_and_ends_with_the_video(serve: Opener) -> None:
    async with serve() as api:
        answer = await made(api, response_format="url", output_format="webp")
        (image,) = answer["data"]
        assert image.keys() == {"url", "video_id"}
        reply = await api.http.get(image["url"], headers={"authorization": ""})
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/webp")
        await api.http.delete(f"/v1/videos/{image['video_id']}")
        reply = await api.http.get(image["url"], headers={"authorization": ""})
        assert reply.status_code == 404


async def test_server_without_links_refuses_url(serve: Opener) -> None:
    async with serve(link_ttl_s=0) as api:
        answer = await api.http.post(URL, json={**PROMPT, "response_format": "url"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (
            400, "response_format", "unsupported_value",
        )  # fmt: skip
        assert await videos(api) == []


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, "64x64"),
        ({"size": "auto"}, "64x64"),
        ({"size": "1024x1024"}, "64x64"),
        ({"size": "1536x1024"}, "64x48"),
        ({"aspect_ratio": "16:9"}, "80x48"),
        ({"width": 32, "height": 48}, "32x48"),
    ],
)
async def test_listed_size_becomes_the_nearest_that_the_model_can_make(
    serve: Opener, fields: dict[str, Any], size: str
) -> None:
    async with serve(max_pixels=5000) as api:
        assert (await made(api, **fields))["size"] == size


async def test_other_size_is_refused_under_the_strict_policy(serve: Opener) -> None:
    for settings, size in (({}, "1000x1000"), ({"size_policy": "strict"}, "1024x1024")):
        async with serve(max_pixels=5000, **settings) as api:
            answer = await api.http.post(URL, json={**PROMPT, "size": size})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 5}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": "many"}, "n", "invalid_type"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"response_format": "mp4"}, "response_format", "invalid_value"),
        ({"quality": "hd"}, "quality", "unsupported_value"),
        ({"style": "vivid"}, "style", "unsupported_value"),
        ({"background": "transparent"}, "background", "unsupported_value"),
        ({"stream": True}, "stream", "unsupported_value"),
        ({"partial_images": 2}, "partial_images", "unsupported_value"),
        ({"output_compression": 50}, "output_compression", "unsupported_value"),
        ({"seconds": 2}, "seconds", "unsupported_value"),
        ({"duration": 2}, "duration", "unsupported_value"),
        ({"num_frames": 5}, "num_frames", "unsupported_value"),
        ({"extra_body": {"fps": 5}}, "fps", "unsupported_value"),
        ({"frame_count": 3}, "frame_count", "unknown_parameter"),
        ({"seed": "x"}, "seed", "invalid_type"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"model": "dall-e-3"}, "model", "model_not_found"),
    ],
)
async def test_field_that_cannot_be_served_is_refused_by_its_name(
    serve: Opener, fields: dict[str, Any], param: str, code: str
) -> None:
    async with serve() as api:
        answer = await api.http.post(URL, json={**PROMPT, **fields})
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, code)
        assert answer.status_code == (404 if code == "model_not_found" else 400)
        assert await videos(api) == []


async def test_fields_that_ask_for_what_happens_anyway_are_accepted(serve: Opener) -> None:
    async with serve() as api:
        harmless = {
            "quality": "auto", "style": "natural", "background": "opaque", "moderation": "low",
            "stream": False, "partial_images": 0, "output_compression": 100, "user": "u",
            "safety_identifier": "s", "n": None, "response_format": None,
        }  # fmt: skip
        await made(api, **harmless)
        form = await api.http.post(URL, data={**PROMPT, "n": "2", "stream": "false"})
        assert len(form.json()["data"]) == 2


async def test_images_count_against_the_rate_limit(serve: Opener) -> None:
    async with serve(requests_per_minute=3) as api:
        answers = [await api.http.post(URL, json={**PROMPT, "n": 2}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
        assert len(await videos(api)) == 2


async def test_full_queue_makes_no_image(serve: Opener) -> None:
    async with serve(max_queued=2) as api:
        api.triton.gate.clear()
        at_work = await api.create(prompt="at work")
        await api.wait(at_work["id"], "in_progress")
        answer = await api.http.post(URL, json={**PROMPT, "n": 4})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert [video["id"] for video in await videos(api)] == [at_work["id"]]


async def test_repeated_request_has_the_same_images(serve: Opener) -> None:
    async with serve() as api:
        headers = {"idempotency-key": "k" * 255}
        body = {**PROMPT, "n": 2}
        first, second = [
            (await api.http.post(URL, json=body, headers=headers)).json()["data"] for _ in range(2)
        ]
        assert first == second
        for other in ({"n": 1}, {"output_format": "webp"}):
            answer = await api.http.post(URL, json={**body, **other}, headers=headers)
            assert answer.status_code == 409


async def test_failure_has_the_code_of_the_job(serve: Opener) -> None:
    async with serve() as api:
        api.triton.failure = GenerationError("out of luck")
        answer = await api.http.post(URL, json=PROMPT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "backend_error")


async def test_image_that_is_deleted_meanwhile_stops_the_others(serve: Opener) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        request = asyncio.create_task(api.http.post(URL, json={**PROMPT, "n": 3}))
        first, *others = await async_wait_for(lambda: _count(api, 3))
        await api.wait(first["id"], "in_progress")
        await api.http.delete(f"/v1/videos/{first['id']}")
        answer = await request
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        for video in others:
            assert (await api.wait(video["id"]))["error"]["code"] == "cancelled"


async def test_disconnected_client_cancels_all_images(serve: Opener) -> None:
    async with serve() as api, live(api.app) as site:
        api.triton.gate.clear()
        request = asyncio.create_task(site.http.post(URL, json={**PROMPT, "n": 2}))
        first, second = await async_wait_for(lambda: _count(api, 2))
        await api.wait(first["id"], "in_progress")
        request.cancel()
        for video in (first, second):
            assert (await api.wait(video["id"]))["error"]["code"] == "cancelled"
        await async_wait_for(lambda: api.triton.stopped)


async def _count(api: Api, count: int) -> list[dict[str, Any]] | None:
    found = await videos(api)
    return found if len(found) == count else None


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
async def test_openai_sdk_makes_images(serve: Opener) -> None:
    async with serve(served_model_name=("gpt-image-1",)) as api:
        client = openai.AsyncOpenAI(
            api_key="key-a", base_url="http://test/v1", http_client=api.http, max_retries=0
        )
        answer = await client.images.generate(
            prompt="a red circle", model="gpt-image-1", n=2, size="1024x1024", quality="auto",
            background="auto", output_format="webp", user="u", extra_body={"seed": 7},
        )  # fmt: skip
        assert answer.data is not None
        for image in answer.data:
            assert image.b64_json
            assert pixels(base64.b64decode(image.b64_json)).shape == (1024, 1024, 3)
        assert (answer.output_format, answer.size) == ("webp", "1024x1024")
        links = await client.images.generate(prompt="x", response_format="url")
        assert links.data
        assert links.data[0].url
        assert (
            await api.http.get(links.data[0].url, headers={"authorization": ""})
        ).status_code == 200
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.generate(prompt="x", style="vivid")
        assert (caught.value.param, caught.value.code) == ("style", "unsupported_value")
