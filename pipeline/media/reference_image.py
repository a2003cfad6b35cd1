"""Decode reference images, which are untrusted files, within limits checked before decoding.

The package ``pipeline.media`` does not import this module: only code that decodes images needs
Pillow.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import InputError

INPUT_REFERENCE = "input_reference"
"""The request parameter that holds the reference image; error messages name it."""

MAX_BYTES = 20 << 20
MAX_PIXELS = 8192 * 4320
MAX_ASPECT = 32
FORMATS = ("PNG", "JPEG", "WEBP")
# A progressive JPEG is decoded once per scan. Encoders write about ten scans; a file of MAX_BYTES
# could hold enough to decode for hours.
JPEG_SCAN, MAX_SCANS = b"\xff\xda", 100
TOO_LARGE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# Pillow raises these for damaged files, and for files crafted to break it.
DAMAGED_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
)


@dataclass(frozen=True)
class ReferenceImage:
    """The pixels of an upright image: three bytes (RGB) per pixel, rows from top to bottom."""

    width: int
    height: int
    rgb: bytes

    @property
    def size(self) -> tuple[int, int]:
        """The image's (width, height) in pixels."""
        return self.width, self.height

    @property
    def image(self) -> Image.Image:
        return Image.frombytes("RGB", self.size, self.rgb)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 digest of size and pixels; it does not depend on the file they came from."""
        # Two updates avoid a copy of the pixels, during which other threads would have to wait.
        digest = hashlib.sha256(b"%d %d " % (self.width, self.height))
        digest.update(self.rgb)
        return digest.hexdigest()


def decode(data: bytes, field: str = INPUT_REFERENCE) -> ReferenceImage:
    """Decode an image, or the first frame of an animation. Raises ``InputError`` that names
    ``field``.
    """
    try:
        return _decode(data)
    except _UnusableError as error:
        raise InputError(field, str(error)) from None


class _UnusableError(Exception):
    """Its text is the reason why a file is refused."""


def _decode(data: bytes) -> ReferenceImage:
    if len(data) > MAX_BYTES:
        raise _UnusableError(f"an image has at most {MAX_BYTES} bytes")
    if data.startswith(b"\xff\xd8") and data.count(JPEG_SCAN) > MAX_SCANS:
        raise _UnusableError(f"a JPEG has at most {MAX_SCANS} scans")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _rgb(image)
            return ReferenceImage(*pixels.size, pixels.tobytes())
    except TOO_LARGE_ERRORS:
        raise _too_large() from None
    except UnidentifiedImageError:
        raise _UnusableError("not a PNG, JPEG or WebP image") from None
    except DAMAGED_ERRORS:
        raise _UnusableError("the image is damaged or incomplete") from None


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    if max(image.size) > MAX_ASPECT * min(image.size):
        # Image encoders scale up the shorter side: 16,000 x 1 pixels would become 784 million.
        raise _UnusableError(
            f"an image is at most {MAX_ASPECT} times as wide as high, or as high as wide"
        )
    if image.mode.startswith("I"):
        # Pillow would clip all values above 255, which are nearly all of a 16-bit image.
        raise _UnusableError("a greyscale image has at most 8 bits per pixel")


def _rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, a palette by way of RGBA. Transparent pixels keep their colour."""
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large() -> _UnusableError:
    return _UnusableError(f"an image has at most {MAX_PIXELS} pixels")
