"""Images, edits and extensions of the bundled model over HTTP, through a real Triton: each result
shows what was asked for, and keeps what it should of its source.
"""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from bench.lib.judge import Judgement, judge, place
from bench.lib.picture import first_frame
from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from models.recipe import scene
from pipeline.checkpoint.folder import Checkpoint
from pipeline.media.input_video import frames_of
from tests.conftest import SHAPES
from tests.e2e.engines import settings_for
from tests.e2e.program import KEY, Proxy

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]

RED = "a red circle moves right on a white background"
BLUE = "a blue circle moves right on a white background"
GREEN = "a green square on a black background"
YELLOW = "a yellow square moves down on a grey background"
NEAR = 8.0  # mean difference of two frames, of 255, that encoding may make
BEGIN = scene.Scene(
    "yellow", "square", "down", "grey", "normal", ((0.35, 0.3), (0.35, 0.65)), (0.2, 0.2)
)


@pytest.fixture(scope="module")
def http(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `serve` in front of a real Triton with the bundled checkpoint."""
    settings = settings_for(SHAPES, "torch")
    repository = prepare_repository(Checkpoint.open(SHAPES), settings, lambda text: None, cache)
    headers = {"authorization": f"Bearer {KEY}"}
    with EmbeddedServer(repository) as server:
        proxy = Proxy(server.grpc_url, tmp_path_factory.mktemp("data"))
        proxy.start()
        with httpx.Client(base_url=f"{proxy.url}/v1", headers=headers, timeout=120) as client:
            yield client
        proxy.stop(signal.SIGKILL)


def made(http: httpx.Client, route: str, **request: Any) -> tuple[dict[str, Any], bytes]:
    """Create a video and return its record and its file, once it is completed."""
    answer = http.post(route, **request)
    assert answer.status_code == 200, answer.text
    video = answer.json()
    while video["status"] in ("queued", "in_progress"):
        time.sleep(0.05)
        video = http.get(f"/videos/{video['id']}").json()
    assert video["status"] == "completed", video
    return video, http.get(f"/videos/{video['id']}/content").content


def frames(file: bytes) -> np.ndarray:
    """Return the frames of a video file: uint8 (T, H, W, 3)."""
    return np.stack(list(frames_of(file)))


def changes(clip: np.ndarray) -> np.ndarray:
    """Return how much each frame differs from the one before: mean of absolute differences."""
    return np.abs(np.diff(clip.astype(float), axis=0)).mean((1, 2, 3))


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far the shapes of two clips begin from each other, in sides of the frame."""
    places = place(first), place(second)
    assert places[0] is not None
    assert places[1] is not None
    return float(np.hypot(*np.subtract(*places)))


@pytest.fixture(scope="module")
def source(http: httpx.Client) -> tuple[dict[str, Any], bytes]:
    """A red circle that moves right, and its record."""
    record, file = made(http, "/videos", json={"prompt": RED, "seed": 7})
    assert judge(frames(file)) == Judgement("red", "circle", "right", "white")
    return record, file


@pytest.mark.parametrize("sent", ["file", "id"])
def test_edit_has_the_new_colour_and_keeps_shape_motion_and_place(
    http: httpx.Client, source: tuple[dict[str, Any], bytes], sent: str
) -> None:
    record, file = source
    fields = {"prompt": BLUE, "seed": "8", "strength": "0.7"}
    request: dict[str, Any] = (
        {"data": fields, "files": {"video": ("clip.mp4", file, "video/mp4")}}
        if sent == "file"
        else {"json": {**fields, "video": {"id": record["id"]}}}
    )
    video, edited = made(http, "/videos/edits", **request)
    named = None if sent == "file" else record["id"]
    assert video["source"] == {"operation": "edit", "video_id": named}
    assert (video["size"], video["num_frames"]) == (record["size"], 17)
    before, after = frames(file), frames(edited)
    assert judge(after) == Judgement("blue", "circle", "right", "white")
    assert distance(before, after) < 0.1
    assert distance(before[::-1], after[::-1]) < 0.1  # and it ends where the source ends


@pytest.mark.parametrize(
    ("words", "motion"), [("moves right", "right"), ("moves up", "up"), ("grows", "grow")]
)
def test_extension_begins_with_its_source_and_continues_without_a_jump(
    http: httpx.Client, source: tuple[dict[str, Any], bytes], words: str, motion: str
) -> None:
    record, file = source
    prompt = f"a red circle {words} on a white background"
    body = {"prompt": prompt, "video": {"id": record["id"]}, "seed": 9, "num_frames": 9}
    video, extended = made(http, "/videos/extensions", json=body)
    before, after = frames(file), frames(extended)
    assert video["num_frames"] == len(after) == len(before) + 8
    assert np.abs(after[: len(before)].astype(float) - before).mean((1, 2, 3)).max() < NEAR
    # What follows the source changes no more from frame to frame than the source itself.
    assert changes(after)[len(before) - 1 :].max() < 1.5 * changes(before).max()
    assert judge(after[len(before) - 1 :]) == Judgement("red", "circle", motion, "white")


@pytest.mark.parametrize("sent", ["file", "data URL"])
def test_video_from_an_image_keeps_its_shape_colour_and_place(
    http: httpx.Client, sent: str
) -> None:
    image = first_frame(BEGIN)
    fields = {"prompt": YELLOW, "seed": "3"}
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    request: dict[str, Any] = (
        {"data": fields, "files": {"input_reference": ("first.png", image, "image/png")}}
        if sent == "file"
        else {"json": {**fields, "input_reference": {"image_url": url}}}
    )
    _, file = made(http, "/videos", **request)
    clip, first = frames(file), np.asarray(Image.open(BytesIO(image)))
    assert np.abs(clip[0].astype(float) - first).mean() < NEAR
    assert judge(clip) == Judgement("yellow", "square", "down", "grey")
    assert place(clip) == pytest.approx(BEGIN.centre[0], abs=0.05)
    assert changes(clip).max() < 3 * np.median(changes(clip))


def stills(http: httpx.Client, **fields: object) -> list[Image.Image]:
    """Return two images of `GREEN` from the Images API."""
    body = {"prompt": GREEN, "n": 2, "seed": 1, **fields}
    answer = http.post("/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    return [
        Image.open(BytesIO(base64.b64decode(image["b64_json"]))) for image in answer.json()["data"]
    ]


@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_images_have_the_native_size_and_differ(http: httpx.Client, encoding: str) -> None:
    first, second = stills(http, output_format=encoding)
    for still in (first, second):
        assert (still.format, still.size) == (encoding.upper(), (64, 64))
    assert first.convert("RGB").tobytes() != second.convert("RGB").tobytes()


def test_images_show_what_their_prompt_says(http: httpx.Client) -> None:
    for still in stills(http):
        seen = judge(np.stack([np.asarray(still.convert("RGB"))] * 2))
        assert (seen.colour, seen.shape, seen.background) == ("green", "square", "black")


def test_image_from_an_image_is_that_image(http: httpx.Client) -> None:
    image = first_frame(BEGIN)
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    for still in stills(http, prompt=YELLOW, input_reference=url):
        clip = np.asarray(Image.open(BytesIO(image)), float)
        assert np.abs(np.asarray(still.convert("RGB"), float) - clip).mean() < NEAR
