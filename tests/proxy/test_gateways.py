"""Requests as gateways and workflow tools send them, on every route that makes a video."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pipeline.families import ModelInfo
from tests.proxy.conftest import Api, Opener
from tests.proxy.reference_images.test_parsing import data_url, png

URL = "/v1/videos"
IMAGE = data_url(png())
# A client's request: how it is encoded, its fields, and the fields of the Video that follow.
TEXT_REQUESTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # litellm/llms/hosted_vllm/videos: a form, whatever the caller set as text
    "LiteLLM hosted_vllm": (
        "form",
        {
            "model": "shapes", "prompt": "a red circle", "seconds": "1", "size": "64x64",
            "width": "64", "height": "64", "fps": "8", "num_inference_steps": "5",
            "guidance_scale": "4.0", "true_cfg_scale": "4.0", "seed": "7", "negative_prompt": "x",
            "generate_sound": "false", "enable_frame_interpolation": "false",
            "frame_interpolation_exp": "1", "frame_interpolation_scale": "1.0",
            "extra_params": '{"flow_shift": 3.0}', "user": "user-1",
        },
        {"size": "64x64", "seconds": "1.125", "seed": 7, "fps": 8},
    ),
    # litellm/llms/openai/videos: OpenAI's fields, and the user of the gateway
    "LiteLLM openai": (
        "json",
        {"model": "sora-2", "prompt": "a red circle", "seconds": "4", "size": "720x1280",
         "user": "user-1"},
        {"model": "sora-2", "size": "48x80", "seconds": "4.125"},
    ),
    # n8n, OpenAi/v2/actions/video: a model and sizes from lists without others
    "n8n": (
        "form",
        {"model": "sora-2", "prompt": "a red circle", "seconds": "4", "size": "1792x1024"},
        {"model": "sora-2", "size": "80x48"},
    ),
    # new-api, relay/channel/task/sora: what its caller sent, with the operator's model name
    "new-api": (
        "json",
        {"model": "sora-2", "prompt": "a red circle", "duration": 2, "seconds": "2",
         "size": "1280X720", "metadata": {"trace": "t-1"}, "n": 1},
        {"model": "sora-2", "size": "80x48", "seconds": "2.125", "metadata": {"trace": "t-1"}},
    ),
    "OpenRouter": (
        "json",
        {"model": "sora-2", "prompt": "a red circle", "duration": 1, "aspect_ratio": "16:9",
         "resolution": "720p", "generate_audio": False, "seed": -1},
        {"size": "80x48", "seconds": "1.125"},
    ),
    "vLLM-Omni": (
        "form",
        {"prompt": "a red circle", "width": "64", "height": "48", "num_frames": "5", "fps": "16",
         "num_outputs_per_prompt": "1", "video_params": '{"width": 64}'},
        {"size": "64x48", "num_frames": 5, "fps": 16},
    ),
    "OpenAI's images": (
        "json",
        {"prompt": "a red circle", "n": 1, "quality": "auto", "size": "auto",
         "response_format": "url"},
        {"size": "64x64"},
    ),
    "an extra_body that was not unpacked": (
        "json",
        {"prompt": "a red circle", "extra_body": {"seed": 7, "extra_params": {"fps": 4}}},
        {"seed": 7, "fps": 4},
    ),
}  # fmt: skip
IMAGE_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a data URL": ("json", {"input_reference": IMAGE}),
    "a data URL in a form": ("form", {"input_reference": IMAGE}),
    "vLLM-Omni": ("json", {"image_reference": {"image_url": IMAGE}}),
    "LiteLLM hosted_vllm": ("form", {"image_reference": json.dumps({"image_url": IMAGE})}),
    "LiteLLM, a list": ("form", {"image_reference": json.dumps([{"image_url": IMAGE}])}),
    "OpenRouter": (
        "json",
        {
            "frame_images": [
                {
                    "type": "image_url",
                    "image_url": {"url": IMAGE},
                    "frame_type": "first_frame",
                }
            ]
        },
    ),
    "in extra_body": ("json", {"extra_body": {"image_reference": {"image_url": IMAGE}}}),
}


@pytest.fixture
def info(info: ModelInfo, request: pytest.FixtureRequest) -> ModelInfo:
    return info.model_copy(update={"image": getattr(request, "param", "refused")})


async def send(api: Api, encoding: str, fields: dict[str, Any], url: str = URL) -> dict[str, Any]:
    """Return the Video that a request makes."""
    sent = (
        {"json": fields}
        if encoding == "json"
        else {"files": {name: (None, value) for name, value in fields.items()}}
    )
    answer = await api.http.post(url, **sent)
    assert answer.status_code == 200, answer.text
    if url.endswith("/sync"):
        return (await api.http.get(f"{URL}/{answer.headers['x-video-id']}")).json()
    return answer.json()


@pytest.mark.parametrize("client", TEXT_REQUESTS)
async def test_request_of_a_client_makes_the_same_video_on_every_route(
    serve: Opener, client: str
) -> None:
    encoding, fields, expected = TEXT_REQUESTS[client]
    # The limits refuse what OpenAI's clients can choose among.
    async with serve(served_model_name=("sora-2",), max_pixels=100_000) as api:
        source = (await api.wait((await api.create(size="32x32", num_frames=9))["id"]))["id"]
        for url in (URL, f"{URL}/sync", f"{URL}/{source}/remix"):
            video = await send(api, encoding, fields, url)
            if url.endswith("/remix") and "size" not in fields and "width" not in fields:
                continue  # it keeps the size of its source
            assert {name: video[name] for name in expected} == expected, url
            assert video["prompt"] == "a red circle"


@pytest.mark.parametrize("info", ["optional"], indirect=True)
@pytest.mark.parametrize("client", IMAGE_REQUESTS)
async def test_image_of_a_client_reaches_triton(serve: Opener, client: str) -> None:
    encoding, fields = IMAGE_REQUESTS[client]
    async with serve() as api:
        video = await send(api, encoding, {"prompt": "x", **fields})
        assert (await api.wait(video["id"]))["status"] == "completed"
        assert api.triton.images == [png()]


@pytest.mark.parametrize("info", ["optional"], indirect=True)
@pytest.mark.parametrize("name", ["input_reference", "image_reference", "frame_images"])
async def test_large_image_in_any_field_is_accepted(serve: Opener, name: str) -> None:
    """Three megabytes, where all other text of a body may have one."""
    large = png() + bytes(2 << 20)
    url = data_url(large)
    objects: dict[str, Any] = {
        "input_reference": url,
        "image_reference": {"type": "image_url", "image_url": url},
        "frame_images": [{"image_url": {"url": url}, "frame_type": "first_frame"}],
    }
    value = objects[name]
    text = value if isinstance(value, str) else json.dumps(value)
    async with serve() as api:
        for encoding, fields in (
            ("json", {name: value}),
            ("json", {"extra_body": {name: value}}),
            ("form", {name: text}),
        ):
            video = await send(api, encoding, {"prompt": "x", **fields})
            await api.wait(video["id"])
        assert api.triton.images == [large] * 3


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[" * (2 << 20), 400),
        ('{"image_url": "' + "x" * (2 << 20) + '"}', 413),
        ('{"image_url": "data:;base64,' + "A" * (2 << 20), 400),
        ('{"image_url": "data:;base64,' + "%" * (2 << 20) + '"}', 400),
        ("x" * (2 << 20), 413),
    ],
)
async def test_large_text_that_holds_no_image_is_refused(
    serve: Opener, text: str, status: int
) -> None:
    async with serve() as api:
        for name in ("image_reference", "frame_images"):
            files = {"prompt": (None, "x"), name: (None, text)}
            answer = await api.http.post(URL, files=files)
            assert answer.status_code == status, answer.text


async def test_field_under_another_name_is_named_as_it_was_sent(serve: Opener) -> None:
    async with serve() as api:
        for body, param in (
            ({"duration": "abc"}, "duration"),
            ({"duration": 3599}, "duration"),
            ({"extra_body": {"duration": -1}}, "duration"),
            ({"image_reference": {"image_url": IMAGE}}, "image_reference"),
            ({"aspect_ratio": "16:9", "resolution": "9999p"}, "aspect_ratio"),
            ({"resolution": "9999p"}, "resolution"),
        ):
            answer = await api.http.post(URL, json={"prompt": "x", **body})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param)


async def test_unknown_field_is_refused_unless_the_operator_ignores_it(
    serve: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"prompt": "x", "seed": 7, "provider": {"only": ["a"]}, "extra_body": {"no\nway": 1}}
    async with serve() as api:
        error = (await api.http.post(URL, json=body)).json()["error"]
        assert (error["param"], error["code"]) == ("provider", "unknown_parameter")
    async with serve(unknown_fields="ignore") as api:
        with caplog.at_level(logging.DEBUG, "proxy.creation"):
            answer = await api.http.post(URL, json=body)
            many = {f"{'n' * 5000}{number}": "secret" for number in range(100)}
            assert (await api.http.post(URL, json={"prompt": "x", **many})).status_code == 200
        assert (answer.status_code, answer.json()["seed"]) == (200, 7)
        first, second = caplog.messages
        assert "provider" in first
        assert "no\\nway" in first
        assert len(second) < 2000
        assert "secret" not in second
        refused = await api.http.post(URL, json={"prompt": "x", "last_frame": IMAGE})
        assert refused.status_code == 400, "what is known and cannot be done is not ignored"
        answer = await api.http.post(URL, json={"prompt": "x", "seed": "many"})
        assert answer.json()["error"]["param"] == "seed", "nor is a wrong value"


async def test_ignored_fields_do_not_make_another_request(serve: Opener) -> None:
    headers = {"idempotency-key": "once"}
    async with serve(unknown_fields="ignore") as api:
        bodies = [
            {"prompt": "x", "seconds": "2", "trace": "1"},
            {"prompt": "x", "duration": 2.0, "trace": "2"},
        ]
        answers = [await api.http.post(URL, json=body, headers=headers) for body in bodies]
        assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"size": "32x48", "num_frames": 5, "fps": 4}),
        ({"seconds": "2"}, {"size": "32x48", "num_frames": 9, "fps": 4}),
        ({"size": "64x64"}, {"size": "64x64", "num_frames": 5}),
        ({"aspect_ratio": "1:1"}, {"size": "64x64"}),
        ({"size": None, "seconds": None}, {"size": "32x48", "num_frames": 5}),
        ({"fps": 8}, {"num_frames": 5, "fps": 8}),
        ({"model": "shapes", "user": "u"}, {"size": "32x48", "model": "shapes"}),
        ({"seed": 7, "metadata": {"a": "b"}}, {"seed": 7, "metadata": {"a": "b"}}),
    ],
)
async def test_remix_sets_what_is_sent_and_keeps_the_rest(
    serve: Opener, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    async with serve(served_model_name=("sora-2",)) as api:
        source = await api.create(
            size="32x48", num_frames=5, fps=4, seed=1, model="sora-2", metadata={"old": "1"}
        )
        await api.wait(source["id"])
        remix = await send(api, "json", {"prompt": "y", **fields}, f"{URL}/{source['id']}/remix")
        expected = {"prompt": "y", "model": "sora-2", "metadata": None, **expected}
        assert {name: remix[name] for name in expected} == expected
        assert remix["remixed_from_video_id"] == source["id"]


@pytest.mark.parametrize("info", ["optional"], indirect=True)
async def test_remix_may_have_another_image(serve: Opener) -> None:
    async with serve() as api:
        source = await send(api, "json", {"prompt": "x", "input_reference": IMAGE})
        await api.wait(source["id"])
        other = {"prompt": "y", "input_reference": data_url(png("blue"))}
        remix = await send(api, "json", other, f"{URL}/{source['id']}/remix")
        await api.wait(remix["id"])
        assert api.triton.images == [png(), png("blue")]


async def test_remix_needs_a_prompt(serve: Opener) -> None:
    async with serve() as api:
        source = await api.create()
        await api.wait(source["id"])
        answer = await api.http.post(f"{URL}/{source['id']}/remix", json={"seconds": 1})
        assert answer.json()["error"]["param"] == "prompt"
