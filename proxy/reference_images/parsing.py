"""What a field for a reference image may hold: a file, a URL, or objects around a URL.

Nothing is fetched here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.media.reference_image import INPUT_REFERENCE as INPUT_REFERENCE
from proxy.errors import ApiError, Code, invalid
from proxy.json_body import parse_json
from proxy.uploads import LongText, Upload

MAX_DATA_URL_CHARACTERS = 20 << 20
MAX_URL_CHARACTERS = 8192
LAST_FRAME = "last_frame"
"""The request parameter that holds the image that a video ends with."""

REFERENCE_KEYS = {"image_url", "file_id", "type"}
FRAME_TYPES = {"first_frame": INPUT_REFERENCE, "last_frame": LAST_FRAME}


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


def parse(value: Any, field: str = INPUT_REFERENCE) -> ImageSource:
    """Return the image that ``field`` names. Raises ``ApiError`` 400."""
    value = only_image(field, value)
    if isinstance(value, Upload):
        return value
    if isinstance(value, str | LongText):
        return _by_url(field, value)
    if not isinstance(value, dict):
        why = "should be a file, a URL, or an object with image_url."
        raise refused(why, "invalid_type", field)
    if unknown := value.keys() - REFERENCE_KEYS:
        why = f"the key {min(unknown)[:80]!r} is not understood; give image_url."
        raise refused(why, "unknown_parameter", field)
    given = [key for key in ("image_url", "file_id") if value.get(key) is not None]
    if len(given) != 1:
        raise refused("should have either image_url or file_id.", field=field)
    if given == ["file_id"]:
        why = "this server keeps no files for file_id to name; send the file or an image_url."
        raise refused(why, field=field)
    url = value["image_url"]
    # The API for chats has an object here too.
    return _by_url(field, url.get("url") if isinstance(url, dict) else url)


def only_image(field: str, value: Any) -> Any:
    """Return the only image of a list, and any other value but JSON text as it is.

    Raises ``ApiError`` 400.
    """
    value = _parsed(field, value)
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise refused(f"{len(value)} images were sent; one is accepted.", field=field)
    return value[0]


def frames_by_field(field: str, value: Any) -> dict[str, Any]:
    """Return the images in a list such as OpenRouter's ``frame_images`` by this server's fields.

    Raises ``ApiError`` 400.
    """
    frames = _parsed(field, value)
    if not frames or not isinstance(frames, list) or not all(isinstance(f, dict) for f in frames):
        why = "should be a list of objects with image_url and frame_type."
        raise refused(why, "invalid_type", field)
    found: dict[str, Any] = {}
    for frame in frames:
        kind = frame.get("frame_type", "first_frame")
        if kind not in FRAME_TYPES:
            allowed = " or ".join(FRAME_TYPES)
            raise refused(f"frame_type should be {allowed}.", "unsupported_value", field)
        if FRAME_TYPES[kind] in found:
            raise refused(f"two images with frame_type {kind} were sent.", field=field)
        found[FRAME_TYPES[kind]] = {k: part for k, part in frame.items() if k != "frame_type"}
    return found


def refused(why: str, code: Code = "invalid_value", field: str = INPUT_REFERENCE) -> ApiError:
    return invalid(field, f"{field}: {why}", code)


def _parsed(field: str, value: Any) -> Any:
    """Parse the JSON text of an object or a list; return any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return parse_json(value)
    except ValueError:
        raise refused("not valid JSON.", field=field) from None


def _by_url(field: str, url: Any) -> ImageSource:
    if isinstance(url, LongText):  # a data URL, as the reading of the body made sure
        return DataUrl(_not_too_long(field, url, url.size))
    if not isinstance(url, str):
        raise refused("image_url should be text.", "invalid_type", field)
    scheme = url[:8].partition(":")[0].lower()
    if scheme == "data":
        return DataUrl(_not_too_long(field, url, len(url)))
    if scheme not in ("http", "https"):
        raise refused("image_url should be an http, https or data URL.", field=field)
    if len(url) > MAX_URL_CHARACTERS:
        raise refused(f"an http URL has up to {MAX_URL_CHARACTERS} characters.", field=field)
    return Link(url)


def _not_too_long(field: str, url: Text, size: int) -> Text:
    if size > MAX_DATA_URL_CHARACTERS:
        why = f"a data URL has up to {MAX_DATA_URL_CHARACTERS} characters."
        raise refused(why, field=field)
    return url
