"""What the ensemble promises its clients: progress, cancellation within a step, cached texts,
errors that say why.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.runtime.embedded import EmbeddedServer
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import CancelledError, InputError
from pipeline.families import SamplingParams
from tests.e2e.metrics import metrics_of

LONG = 200
# of 255, on average; the random checkpoint's frames are noise, and differ by 26 and more
WEBP_LOSS = 8


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[VideoClient]:
    with VideoClient(server.grpc_url) as opened:
        yield opened


def make(client: VideoClient, **values: Any) -> Video:
    *_, last = client.generate(
        SamplingParams(**{"prompt": "a red circle", **values}), return_frames=True
    )
    assert isinstance(last, Video)
    return last


def running(client: VideoClient) -> dict[str, Any]:
    return {
        job: place for stage in client.status().values() for job, place in stage["jobs"].items()
    }


def wait_until_idle(client: VideoClient, seconds: float) -> float:
    """Seconds until no stage runs anything; fails after ``seconds``."""
    begin = time.monotonic()
    while running(client):
        assert time.monotonic() - begin < seconds, "the stage still runs"
        time.sleep(0.005)
    return time.monotonic() - begin


def test_progress_comes_in_order_and_the_video_last(client: VideoClient) -> None:
    events = list(client.generate(SamplingParams(prompt="a red circle", num_inference_steps=3)))
    assert events[:-1] == [Progress("denoise", i, 3) for i in range(4)] + [
        Progress("decode", i, 3) for i in range(4)
    ]
    video = events[-1]
    assert isinstance(video, Video)
    assert video.frames is None, "frames leave the server only when asked for"
    assert video.request.num_inference_steps == 3


def same(first: Video, second: Video) -> bool:
    """Frames are the same to the bit. The MP4 is not always: x264 may code the same frames in
    other bytes.
    """
    return np.array_equal(first.frames, second.frames)


def test_the_same_seed_gives_the_same_video(client: VideoClient) -> None:
    first, again, other = (make(client, seed=seed) for seed in (5, 5, 6))
    assert same(first, again)
    assert not same(first, other)


def test_previews_show_the_frames(client: VideoClient) -> None:
    """WebP. The thumbnail is the middle frame, the sheet 3 x 3 of the 9 frames, in
    order.
    """
    video = make(client, num_frames=9, height=48, width=64, seed=1)
    thumbnail, sheet = (
        Image.open(io.BytesIO(file)) for file in (video.thumbnail, video.spritesheet)
    )
    assert (thumbnail.format, sheet.format) == ("WEBP", "WEBP")
    assert thumbnail.size == (64, 48)
    assert nearest(thumbnail, video.frames) == 4
    assert sheet.size == (3 * 64, 3 * 48)
    tiles = [sheet.crop((x, y, x + 64, y + 48)) for y in (0, 48, 96) for x in (0, 64, 128)]
    assert [nearest(tile, video.frames) for tile in tiles] == list(range(9))


def nearest(picture: Image.Image, frames: np.ndarray) -> int:
    """The frame that the picture is, but for WebP's loss; in grey, as WebP halves the resolution
    of colour.
    """
    grey = np.stack([np.asarray(Image.fromarray(frame).convert("L"), float) for frame in frames])
    distances = np.abs(grey - np.asarray(picture.convert("L"))).mean(axis=(1, 2))
    assert distances.min() < WEBP_LOSS
    return int(distances.argmin())


def test_random_seed_is_drawn_and_reported(client: VideoClient) -> None:
    first, second = make(client), make(client)
    assert first.request.seed != second.request.seed
    assert same(make(client, seed=first.request.seed), first)


def test_closing_the_stream_frees_the_device_within_a_step(client: VideoClient) -> None:
    stream = client.generate(SamplingParams(prompt="a red circle", num_inference_steps=LONG))
    for event in stream:
        if isinstance(event, Progress) and event.step == 3:
            break
    (place,) = running(client).values()
    stream.close()
    stopped_after = wait_until_idle(client, 5)
    assert place[0] < LONG - 20, "it was stopped in the middle, not at its end"
    assert stopped_after < 1.0
    assert isinstance(make(client), Video), "the next request is served"


def test_cancel_by_id_stops_within_a_step(client: VideoClient, server: EmbeddedServer) -> None:
    """Counted on the device: the step at which the message came, and the step before which the
    loop stopped.
    """
    asked = None
    with pytest.raises(CancelledError) as caught, VideoClient(server.grpc_url) as other:  # noqa: PT012 - the loop raises
        for event in client.generate(
            SamplingParams(prompt="x", num_inference_steps=LONG), job_id="a-job"
        ):
            if asked is None and isinstance(event, Progress) and event.step == 2:
                asked, total = other.cancel("a-job")["dit"]["running"]
                assert total == LONG
    stopped = int(re.search(r"before step (\d+) of", str(caught.value))[1])
    assert stopped - asked <= 1


def test_cancelling_before_a_job_reaches_the_device(client: VideoClient) -> None:
    client.cancel("never-started")
    with pytest.raises(CancelledError, match="before step 0"):
        list(client.generate(SamplingParams(prompt="x"), job_id="never-started"))


def metric(server: EmbeddedServer, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", metrics_of(server), re.MULTILINE)
    assert found, f"no metric {name}"
    return float(found[1])


def test_steps_and_ranks_are_among_tritons_metrics(
    client: VideoClient, server: EmbeddedServer
) -> None:
    names = ("triton_video_denoise_steps_total", "triton_video_denoise_step_seconds_total")
    steps, seconds = (metric(server, name) for name in names)
    begin = time.monotonic()
    make(client, num_inference_steps=3)
    elapsed = time.monotonic() - begin
    assert metric(server, names[0]) == steps + 3
    assert 0 < metric(server, names[1]) - seconds < elapsed
    assert metric(server, "triton_video_ranks_alive") == 1
    assert metric(server, "triton_video_rank_group_starts_total") == 1


def test_texts_are_encoded_once(client: VideoClient, server: EmbeddedServer) -> None:
    def encodings() -> float:
        names = ("triton_video_encodings_total", "triton_video_reused_encodings_total")
        asked, reused = (metric(server, f'{name}{{model="text_encoder"}}') for name in names)
        return asked - reused

    make(client, prompt="a blue square", negative_prompt="one on black")
    before = encodings()
    make(client, prompt="a blue square", negative_prompt="one on black")
    assert encodings() == before
    make(client, prompt="a blue square moves left", negative_prompt="one on black")
    assert encodings() == before + 1, "only the new prompt"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"height": 40},
            "height: 40 is not valid; it must be a multiple of 16, at most 1280 (nearest: 32 or "
            "48)",
        ),
        (
            {"width": 2000},
            "width: 2000 is not valid; it must be a multiple of 16, at most 1280 (nearest: 1280)",
        ),
        (
            {"num_frames": 8},
            "num_frames: 8 is not valid; it must be 4k+1, at most 257 (nearest: 5 or 9)",
        ),
        (
            {"num_inference_steps": 201},
            "num_inference_steps: 201 is too many; it must be from 1 to 200",
        ),
    ],
)
def test_invalid_request_names_the_nearest_valid_values(
    client: VideoClient, values: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        make(client, **values)
    assert str(caught.value) == message
    assert caught.value.field == message.partition(":")[0]


def test_server_validates_requests_of_any_triton_client(client: VideoClient) -> None:
    """A plain Triton client is not bound by ours: the server checks for itself."""
    for values in ({"prompt": ""}, {"seed": -1}, {"guidance_scale": float("nan")}, {"fps": 0}):
        with pytest.raises(InputError) as caught:
            list(
                client.generate(
                    SamplingParams.model_construct(**{**EMPTY, "prompt": "x", **values})
                )
            )
        assert caught.value.field == next(iter(values))


EMPTY = dict.fromkeys(SamplingParams.model_fields)
