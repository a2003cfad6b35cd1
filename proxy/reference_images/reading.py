"""Reads the reference image of a request: from its upload, its data URL or its link."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from io import BytesIO

import httpx2 as httpx

from pipeline.errors import InputError
from pipeline.media.reference_image import MAX_BYTES, decode
from proxy.errors import invalid
from proxy.outbound import BodyTooLarge, ForbiddenAddress, Lookups, outbound_client
from proxy.reference_images.parsing import INPUT_REFERENCE, DataUrl, ImageSource, Link, refused
from proxy.uploads import LongText, Upload

FETCH_S = 20.0
MAX_HEAD_CHARACTERS = 1024  # of a data URL, up to its comma
BASE64_CHARACTERS = 1 << 20  # a multiple of 4
DECODED_AT_A_TIME = 2  # the largest one takes 600 MB on its way to RGB
FETCHES_AT_A_TIME = 16  # of 20 MiB each


@dataclass(frozen=True)
class ReferenceImage:
    """A decoded image file. ``size`` is (width, height) as displayed.

    ``digest`` hashes its pixels alone.
    """

    data: bytes
    size: tuple[int, int]
    digest: str


class ReferenceImages:
    """Reads reference images, a few at a time.

    ``allow_private`` lets links lead into a private network.
    """

    def __init__(self, *, allow_private: bool = False):
        self._allow_private = allow_private
        self._decoding = asyncio.Semaphore(DECODED_AT_A_TIME)
        self._fetching = asyncio.Semaphore(FETCHES_AT_A_TIME)
        self._lookups = Lookups()

    async def read(self, source: ImageSource, field: str = INPUT_REFERENCE) -> ReferenceImage:
        """Fetch and decode an image. Raises ``ApiError`` 400 that names ``field``."""
        data = await self._fetch(source.url, field) if isinstance(source, Link) else source
        async with self._decoding:
            return await asyncio.to_thread(_read, data, field)

    async def _fetch(self, url: str, field: str) -> bytes:
        try:
            async with (
                self._fetching,
                outbound_client(
                    allow_private=self._allow_private,
                    timeout_s=FETCH_S,
                    max_bytes=MAX_BYTES,
                    lookups=self._lookups,
                ) as client,
            ):
                answer = await client.get(url)
        except BodyTooLarge:
            raise refused(f"an image has up to {MAX_BYTES} bytes.", field=field) from None
        except (ForbiddenAddress, httpx.ConnectError):
            # One answer for both: otherwise a caller could find out names of the private network.
            why = "image_url cannot be reached; it must be at a public address."
            raise refused(why, field=field) from None
        except httpx.TimeoutException:
            why = f"image_url did not send the image within {FETCH_S:g} seconds."
            raise refused(why, field=field) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            raise refused("image_url cannot be fetched.", field=field) from None
        if answer.status_code != httpx.codes.OK:
            why = f"image_url was answered with status {answer.status_code} and not with an image."
            raise refused(why, field=field)
        return answer.content


def _read(data: bytes | Upload | DataUrl, field: str) -> ReferenceImage:
    if isinstance(data, Upload):
        data = data.read()
    return decoded_image(_inline(data.text, field) if isinstance(data, DataUrl) else data, field)


def decoded_image(data: bytes, field: str = INPUT_REFERENCE) -> ReferenceImage:
    """Decode an image. Raises ``ApiError`` 400 when ``data`` is no image, or is too large."""
    try:
        image = decode(data, field)
    except InputError as error:
        raise invalid(field, f"{error}.") from None
    return ReferenceImage(data, image.size, image.digest)


def _inline(url: str | LongText, field: str) -> bytes:
    if isinstance(url, str):
        url = LongText(BytesIO(url.encode("ascii", "replace")), len(url))
    text, left = url.file, url.size
    text.seek(url.start)
    head, comma, _ = text.read(min(left, MAX_HEAD_CHARACTERS)).partition(b",")
    if not comma or not head.lower().endswith(b";base64"):
        why = "a data URL should be data:image/png;base64,... or the like."
        raise refused(why, field=field)
    text.seek(url.start + len(head) + 1)
    left -= len(head) + 1
    data = bytearray()
    try:
        # In parts: one call for all would keep every other thread waiting.
        while part := text.read(min(left, BASE64_CHARACTERS)):
            left -= len(part)
            if data and len(data) % 3:
                raise ValueError("more after the end")
            data += base64.b64decode(part, validate=True)
    except ValueError:
        raise refused("the data URL is not valid base64.", field=field) from None
    return bytes(data)
