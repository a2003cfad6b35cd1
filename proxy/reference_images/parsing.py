"""What ``input_reference`` may be: a file, or an object with a URL. Nothing is fetched here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.media.reference_image import INPUT_REFERENCE as INPUT_REFERENCE
from proxy.errors import ApiError, Code, invalid
from proxy.uploads import LongText, Upload

MAX_DATA_URL_CHARACTERS = 20 << 20
MAX_URL_CHARACTERS = 8192
REFERENCE_KEYS = {"image_url", "file_id"}


@dataclass(frozen=True)
class DataUrl:
    """A data URL: the image itself, as text."""

    text: str | LongText


@dataclass(frozen=True)
class Link:
    """An http or https URL of an image, not checked yet."""

    url: str


ImageSource = Upload | DataUrl | Link
Text = TypeVar("Text", str, LongText)


def parse(value: Any) -> ImageSource:
    """Return what the field ``input_reference`` names. Raises ``ApiError`` 400."""
    if isinstance(value, Upload):
        return value
    if not isinstance(value, dict):
        raise refused("should be a file, or an object with image_url.", "invalid_type")
    if unknown := value.keys() - REFERENCE_KEYS:
        raise refused(
            f"the key {min(unknown)[:80]!r} is not understood; give image_url.", "unknown_parameter"
        )
    given = [key for key in REFERENCE_KEYS if value.get(key) is not None]
    if len(given) != 1:
        raise refused("should have either image_url or file_id.")
    if given == ["file_id"]:
        raise refused(
            "this server keeps no files for file_id to name; send the file itself or an image_url."
        )
    return _by_url(value["image_url"])


def refused(why: str, code: Code = "invalid_value") -> ApiError:
    return invalid(INPUT_REFERENCE, f"{INPUT_REFERENCE}: {why}", code)


def _by_url(url: Any) -> ImageSource:
    if isinstance(url, LongText):  # a data URL, as the reading of the body made sure
        return DataUrl(_not_too_long(url, url.size))
    if not isinstance(url, str):
        raise refused("image_url should be text.", "invalid_type")
    scheme = url[:8].partition(":")[0].lower()
    if scheme == "data":
        return DataUrl(_not_too_long(url, len(url)))
    if scheme not in ("http", "https"):
        raise refused("image_url should be an http, https or data URL.")
    if len(url) > MAX_URL_CHARACTERS:
        raise refused(f"an http URL has up to {MAX_URL_CHARACTERS} characters.")
    return Link(url)


def _not_too_long(url: Text, size: int) -> Text:
    if size > MAX_DATA_URL_CHARACTERS:
        raise refused(f"a data URL has up to {MAX_DATA_URL_CHARACTERS} characters.")
    return url
