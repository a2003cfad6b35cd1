"""OpenAI's SDK for Python against the application."""

from __future__ import annotations

import openai
import pytest
from openai.types import Video

from pipeline.families import ModelInfo
from tests.proxy.clips import clip
from tests.proxy.conftest import MP4, Api, Opener

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


@pytest.fixture
def info(info: ModelInfo) -> ModelInfo:
    return info.model_copy(update={"edits": True, "extends": True})


def sdk(api: Api) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key="key-a", base_url="http://test/v1", http_client=api.http, max_retries=0
    )


async def test_video_by_an_alias_from_models_to_remix(serve: Opener) -> None:
    async with serve(served_model_name=("sora-2",)) as api:
        client = sdk(api)
        assert [model.id async for model in client.models.list()] == ["shapes", "sora-2"]
        model = await client.models.retrieve("sora-2")
        assert (model.id, model.object, model.owned_by) == ("sora-2", "model", "triton-video")
        video = await client.videos.create_and_poll(
            prompt="a red circle", model="sora-2", poll_interval_ms=10
        )
        assert (video.status, video.model) == ("completed", "sora-2")
        assert (await client.videos.download_content(video.id)).content == MP4
        remix = await client.videos.remix(video.id, prompt="a blue circle")
        assert (remix.model, remix.size, remix.seconds) == ("sora-2", video.size, video.seconds)


async def test_unknown_model_is_the_error_that_programs_catch(serve: Opener) -> None:
    async with serve() as api:
        client = sdk(api)
        for call in (
            client.models.retrieve("sora-2"),
            client.videos.create(prompt="x", model="sora-2"),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                await call
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_video_is_edited_and_extended(serve: Opener) -> None:
    async with serve() as api:
        client, file = sdk(api), ("circle.mp4", clip())
        edit = await client.videos.edit(
            prompt="a blue circle", video=file, extra_body={"strength": 0.5}
        )
        extension = await client.videos.extend(prompt="it stops", video=file, seconds="4")
        assert (edit.seconds, extension.seconds) == ("1.125", "5.125")
        for made in (edit, extension):
            done = await client.videos.poll(made.id, poll_interval_ms=10)
            assert (done.status, done.progress) == ("completed", 100)
        assert [params.strength for params in api.triton.params] == [0.5, None]


async def test_video_of_the_server_is_edited_by_its_id(serve: Opener) -> None:
    """The SDK itself refuses ``video={"id": ...}`` in `videos.edit`, before it sends anything."""
    async with serve() as api:
        client = sdk(api)
        api.triton.mp4 = lambda prompt: clip()
        source = await client.videos.create_and_poll(prompt="a red circle", poll_interval_ms=10)
        body = {"prompt": "a blue circle", "video": {"id": source.id}}
        edit = await client.post("/videos/edits", cast_to=Video, body=body)
        assert edit.to_dict()["source"] == {"operation": "edit", "video_id": source.id}
        missing = body | {"video": {"id": "video_none"}}
        with pytest.raises(openai.NotFoundError) as caught:
            await client.post("/videos/edits", cast_to=Video, body=missing)
        assert caught.value.param == "video"


async def test_program_catches_a_broken_video_by_its_field(serve: Opener) -> None:
    async with serve() as api:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk(api).videos.extend(prompt="x", video=b"not a video", seconds="4")
        assert (caught.value.param, caught.value.code) == ("video", "invalid_value")
