"""Requests of OpenAI's Images API: an image is a video of one frame, and the frame as a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from pipeline.families.sampling import MAX_SEED
from pipeline.validation import first_problem
from proxy.errors import invalid, invalid_field, refuse_bool
from proxy.fields import CreateVideo
from proxy.jobs.model import ImageFormat, NewJob
from proxy.settings import RequestSettings
from proxy.sizes import Size
from proxy.spellings import Body, Foreign, only, understood

MAX_IMAGES = 4
# The sizes of OpenAI's image models: clients offer these, so the nearest size is made for them.
LISTED: frozenset[Size] = frozenset(
    {(256, 256), (512, 512), (1024, 1024), (1536, 1024), (1024, 1536), (1792, 1024), (1024, 1792)}
)
NO_LENGTH = ("num_frames", "seconds", "fps")
# How Pillow writes each format; all but JPEG are lossless.
WRITING: Mapping[ImageFormat, Mapping[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 4},
    "webp": {"format": "WEBP", "lossless": True},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
FOREIGN: Mapping[str, Foreign] = {
    "quality": only(("auto", "standard"), "there is one quality; set num_inference_steps instead"),
    "style": only(("natural",), "describe the style in the prompt"),
    "background": only(("auto", "opaque"), "images are opaque"),
    "moderation": only(("auto", "low"), "this server does not moderate"),
    "stream": only((False,), "an image comes whole; send stream false"),
    "partial_images": only((0,), "an image comes whole"),
    "output_compression": only((100,), "PNG and WebP are lossless"),
    "safety_identifier": Foreign(
        {"type": "string"}, "Accepted, without effect: keys tell users apart."
    ),
}
PROPERTIES: Mapping[str, Any] = {name: each.documented for name, each in FOREIGN.items()}


class ImageOptions(BaseModel):
    """The fields of an image request that are not those of a video."""

    n: int = Field(
        default=1, ge=1, le=MAX_IMAGES, description="Number of images, with consecutive seeds."
    )
    response_format: Literal["b64_json", "url"] = Field(
        default="b64_json", description="The image itself in base64, or a signed link to it."
    )
    output_format: ImageFormat = Field(
        default="png", description="Format of the image; WebP is lossless too."
    )


class CreateImage(CreateVideo, ImageOptions):
    """All fields of an image request, for openapi.json."""


def image_request(body: Mapping[str, Any]) -> tuple[Body, ImageOptions]:
    """Return the video of one frame that a request asks for, and what to answer.

    Raises ``ApiError`` 400.
    """
    rest = dict(body)
    own = {name: rest.pop(name, None) for name in ImageOptions.model_fields}
    for name, foreign in FOREIGN.items():
        foreign.check(name, rest.pop(name, None))
    refuse_bool("n", own["n"])
    try:
        options = ImageOptions(**{name: value for name, value in own.items() if value is not None})
    except ValidationError as error:
        problem = first_problem(error)
        raise invalid_field(problem.field, problem) from None
    asked = understood(rest)
    for name in NO_LENGTH:
        if asked.given(name):
            field = asked.name(name)
            why = f"{field}: an image has no length; make a video with POST /v1/videos."
            raise invalid(field, why, "unsupported_value")
    asked.fields["num_frames"] = 1
    return asked, options


def image_settings(settings: RequestSettings, body: Body) -> RequestSettings:
    """Return ``settings`` with the size policy of an image request."""
    size = str(body.fields.get("size")).lower()
    if settings.size_policy is None and size in {f"{width}x{height}" for width, height in LISTED}:
        return settings.model_copy(update={"size_policy": "nearest"})
    return settings


def one_each(new: NewJob, count: int) -> Iterator[NewJob]:
    """Yield ``count`` jobs like ``new`` with consecutive seeds, each with its idempotency key."""
    for number in range(count):
        seed, key = ((new.params.seed or 0) + number) % (MAX_SEED + 1), new.idempotency_key
        if key and number:
            key = hashlib.sha256(f"{number} {key}".encode()).hexdigest()
        params = new.params.model_copy(update={"seed": seed})
        yield replace(new, params=params, idempotency_key=key)


def encoded(frame: np.ndarray, image_format: ImageFormat) -> bytes:
    """Return a frame, uint8 (H, W, 3), as an image file."""
    file = BytesIO()
    Image.fromarray(frame).save(file, **WRITING[image_format])
    return file.getvalue()
