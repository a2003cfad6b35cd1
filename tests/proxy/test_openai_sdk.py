"""OpenAI's SDK for Python against the application."""

from __future__ import annotations

import openai
import pytest

from tests.proxy.conftest import MP4, Api, Opener

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


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
