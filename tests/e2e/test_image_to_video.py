"""Videos that begin from a picture, through a real Triton: frames as the diffusers pipelines
make them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from diffusers import WanImageToVideoPipeline
from PIL import Image

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.decoders import frames_to_uint8
from pipeline.errors import InputError
from pipeline.families import Inputs, SamplingParams
from proxy.app import create_app
from proxy.settings import ProxySettings
from tests.diffusers_call import call_diffusers
from tests.e2e.engines import settings_for

PROMPT, NEGATIVE = "a red circle moves right", "blue square"
PARAMS = SamplingParams(prompt=PROMPT, negative_prompt=NEGATIVE, seed=5)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (20, 31, 3), np.uint8)
    return Image.fromarray(noise).resize((90, 60))


def png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@contextmanager
def served(checkpoint: Path, cache: Path, engine: str = "graph") -> Iterator[VideoClient]:
    settings = settings_for(checkpoint, engine)
    repository = prepare_repository(Checkpoint.open(checkpoint), settings, lambda text: None, cache)
    with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as client:
        yield client


def make(client: VideoClient, picture: bytes | None, last: bytes | None = None) -> Video:
    inputs = Inputs(image=picture, last_frame=last)
    *_, made = client.generate(PARAMS, inputs=inputs, return_frames=True)
    assert isinstance(made, Video)
    return made


async def made_by_http(triton: str, folder: Path, picture: bytes) -> bytes:
    """The MP4 that the proxy answers with, in front of that Triton."""
    app = create_app(ProxySettings(data_path=folder), [triton], ("key",), None)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test", timeout=120
        ) as http,
    ):
        while not app.context.service.tritons.models:
            await asyncio.sleep(0.05)
        fields = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": str(PARAMS.seed)}
        answer = await http.post(
            "/v1/videos/sync",
            headers={"authorization": "Bearer key"},
            data=fields,
            files={"input_reference": ("picture.png", picture)},
        )
    assert answer.status_code == 200, answer.text
    return answer.content


def assert_as_diffusers(checkpoint: Path, made: Video, picture: Image.Image, **more: Any) -> None:
    pipeline = WanImageToVideoPipeline.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    texts = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "max_sequence_length": 20}
    theirs = frames_to_uint8(
        call_diffusers(pipeline, made.request, "np", image=picture, **texts, **more)[0]
    )
    assert made.frames is not None
    assert theirs.std() > 5
    # One level of 255: what is 1e-3 apart may be rounded to either side.
    assert np.abs(made.frames.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.timeout(600)  # two graphs of each half of a VAE are exported, and two encoders
@pytest.mark.parametrize("engine", ["graph", "torch"])
def test_image_in_the_channels_and_before_an_image_encoder(
    build_family: Callable[[str], Path], cache: Path, picture: Image.Image, engine: str
) -> None:
    checkpoint = build_family("wan2.1-i2v")
    with served(checkpoint, cache, engine) as client:
        made = make(client, png(picture))
        with pytest.raises(
            InputError,
            match=r"input_reference: required; the model .* makes videos from an image",
        ):
            make(client, None)
        with pytest.raises(InputError, match="input_reference: not a PNG, JPEG or WebP image"):
            make(client, b"rubbish")
    assert_as_diffusers(checkpoint, made, picture)


@pytest.mark.timeout(600)  # two graphs of each half of a VAE are exported
def test_image_is_the_first_frame_or_absent(
    build_family: Callable[[str], Path], cache: Path, picture: Image.Image, tmp_path: Path
) -> None:
    checkpoint = build_family("wan2.2-ti2v")
    with served(checkpoint, cache) as client:
        from_text, made = make(client, None), make(client, png(picture))
        by_http = asyncio.run(made_by_http(client.url, tmp_path, png(picture)))
    assert by_http == made.mp4
    assert_as_diffusers(checkpoint, made, picture)
    assert from_text.frames is not None
    assert from_text.request.width == Checkpoint.open(checkpoint).info.defaults.width


@pytest.mark.timeout(600)
def test_a_video_between_two_images(
    build_family: Callable[[str], Path], cache: Path, picture: Image.Image
) -> None:
    """The second image is in the channels, and follows the first one to the image encoder."""
    checkpoint, last = build_family("wan2.1-flf2v"), picture.rotate(180)
    with served(checkpoint, cache, "torch") as client:
        made = make(client, png(picture), png(last))
        with pytest.raises(InputError, match="last_frame: required; the model"):
            make(client, png(picture))
    assert_as_diffusers(checkpoint, made, picture, last_image=last)
