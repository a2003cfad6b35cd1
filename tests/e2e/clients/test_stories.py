"""Six clients tell one story: OpenAI's SDKs for Python and Node in two majors each, and curl
with JSON and forms.
"""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.e2e.clients.conftest import ALIAS, CLIENTS, FIELDS, Story

SDKS = [name for name in CLIENTS if not name.startswith("curl")]
TIMES = {"created_at", "completed_at", "expires_at", "inference_time_s"}
OTHERS = {"id", "peak_memory_mb", "url", "events_url"}  # that differ from video to video
# What is refused: status, param, code, and the class of the SDKs' error.
REFUSED = {
    "size": (400, "size", "invalid_value", "BadRequestError"),
    "model": (404, "model", "model_not_found", "NotFoundError"),
    "picture": (400, "input_reference", "unsupported_value", "BadRequestError"),
    "key": (401, None, "invalid_api_key", "AuthenticationError"),
    "retrieve": (404, "video_id", "not_found", "NotFoundError"),
    "content": (404, "video_id", "not_found", "NotFoundError"),
    "delete": (404, "video_id", "not_found", "NotFoundError"),
    "failed": (400, "video_id", "timeout", "BadRequestError"),
}


@pytest.fixture(params=CLIENTS)
def story(request: pytest.FixtureRequest, stories: dict[str, Story]) -> Story:
    return stories[request.param]


@pytest.mark.parametrize("name", SDKS)
def test_the_client_is_the_version_that_its_name_says(stories: dict[str, Story], name: str) -> None:
    assert stories[name].told["version"].partition(".")[0] == name.rpartition("-")[2]


def test_a_video_from_create_to_download(story: Story) -> None:
    """Size, rate and length of the file are those of the job."""
    created, made = story.told["created"], story.told["made"]
    assert (created["status"], created["progress"], created["object"]) == ("queued", 0, "video")
    assert (made["status"], made["progress"], made["error"]) == ("completed", 100, None)
    # A link is a new one from time to time.
    links = {"url": None, "events_url": None}
    assert story.told["retrieved"] | links == made | links
    assert story.told["polled"]["status"] == "completed"
    with av.open(story.file) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert f"{stream.width}x{stream.height}" == made["size"] == FIELDS["size"]
        assert (stream.average_rate, frames) == (made["fps"], made["num_frames"])
        assert frames / made["fps"] == pytest.approx(float(made["seconds"]))
        assert float(stream.duration * stream.time_base) == pytest.approx(float(made["seconds"]))
    content = story.file.read_bytes()
    assert content[4:8] == b"ftyp"
    assert content.index(b"moov") < content.index(b"mdat"), "it can be played while it is read"


def test_edit_is_as_long_as_its_source_and_extension_longer(story: Story) -> None:
    made, edited, extended = (story.told[name] for name in ("made", "edited", "extended"))
    assert edited["source"] == {"operation": "edit", "video_id": None}
    assert extended["source"] == {"operation": "extension", "video_id": None}
    assert (edited["size"], edited["seconds"]) == (made["size"], made["seconds"])
    assert extended["num_frames"] == made["num_frames"] + 8  # a second more


@pytest.mark.parametrize("name", SDKS)
def test_images_are_frames_of_the_model(stories: dict[str, Story], name: str) -> None:
    """Lossless, of the size that was asked for, and the same for each client's seed."""
    images = [pixels(text) for text in stories[name].told["images"]]
    first, second = images
    assert first.shape == second.shape == (64, 64, 3)
    assert (first != second).any(), "each image has its own seed"
    for image, other in zip(images, stories[SDKS[0]].told["images"], strict=True):
        assert np.abs(image.astype(int) - pixels(other)).max() <= 1


@pytest.mark.parametrize("name", SDKS)
def test_refused_image_names_the_field(stories: dict[str, Story], name: str) -> None:
    told = stories[name].told["refused"]["style"]
    assert (told["status"], told["param"], told["code"], told["class"]) == (
        400, "style", "unsupported_value", "BadRequestError",
    )  # fmt: skip


def test_the_same_fields_make_the_same_job(stories: dict[str, Story]) -> None:
    """In multipart of every SDK, in curl's, and in JSON."""
    for step in ("created", "made"):
        jobs = [without_times(story.told[step]) for story in stories.values()]
        assert jobs == [jobs[0]] * len(CLIENTS)


def test_the_same_seed_makes_the_same_frames(stories: dict[str, Story]) -> None:
    first, *others = [decoded(story.file) for story in stories.values()]
    assert first.std() > 10, "there is something to see"
    for other in others:
        assert np.array_equal(first, other)


def test_every_job_comes_once_in_pages(story: Story, listed: list[str]) -> None:
    assert story.told["listed"] == {"asc": listed, "desc": listed[::-1]}


def test_a_job_that_fails_is_returned(story: Story) -> None:
    failed = story.told["failed"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "timeout")
    assert failed["progress"] < 100


def test_remix_and_delete_work(story: Story) -> None:
    made, remixed = story.told["made"], story.told["remixed"]
    assert remixed["remixed_from_video_id"] == made["id"]
    assert remixed["prompt"] == "a blue square"
    assert [remixed[key] for key in ("model", "size", "seconds")] == [
        made[key] for key in ("model", "size", "seconds")
    ]
    assert story.told["deleted"] == {"id": made["id"], "object": "video.deleted", "deleted": True}


def test_a_model_is_found_and_used_under_another_name(story: Story) -> None:
    assert story.told["model"]["id"] == ALIAS
    assert story.told["named"]["model"] == ALIAS
    assert story.told["made"]["model"] == "shapes"


@pytest.mark.parametrize("what", REFUSED)
def test_refused_requests_name_param_and_code(story: Story, what: str) -> None:
    """Each as the error class that a program catches, with the field at fault and a code."""
    told = story.told["refused"][what]
    status, param, code, kind = REFUSED[what]
    assert (told["status"], told["param"], told["code"]) == (status, param, code)
    assert told.get("class", kind) == kind
    assert told.get("request_id", "req_").startswith("req_")


def without_times(video: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in video.items() if key not in TIMES | OTHERS}


def pixels(text: str) -> np.ndarray:
    """Return the pixels of a PNG in base64."""
    image = Image.open(BytesIO(base64.b64decode(text)))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image)


def decoded(file: Path) -> np.ndarray:
    with av.open(file) as container:
        return np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        ).astype(int)
