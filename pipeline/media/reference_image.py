"""Reference pictures: from bytes of anyone's making to pixels, within bounds that are checked
before the first one.

Not imported by the package: only who decodes pictures needs Pillow.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import InputError

FIELD = "input_reference"

MAX_BYTES = 20 << 20
MAX_PIXELS = 8192 * 4320
MAX_ASPECT = 32
FORMATS = ("PNG", "JPEG", "WEBP")
# A progressive JPEG is gone over once a scan. Encoders write about ten; MAX_BYTES have room for
# hours of them.
SCAN, MAX_SCANS = b"\xff\xda", 100
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Pillow raises for files that are broken or were made to break it.
BROKEN = (
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
class Picture:
    """Upright, three bytes a pixel, rows from the top."""

    width: int
    height: int
    rgb: bytes

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def image(self) -> Image.Image:
        return Image.frombytes("RGB", self.size, self.rgb)

    @cached_property
    def digest(self) -> str:
        """The same for the same pixels, however they came."""
        # In two steps: joined, the pixels would be copied, and other threads would wait meanwhile.
        digest = hashlib.sha256(b"%d %d " % (self.width, self.height))
        digest.update(self.rgb)
        return digest.hexdigest()


def decode(data: bytes) -> Picture:
    """The picture, of an animation the first one. Raises ``InputError``."""
    if len(data) > MAX_BYTES:
        raise _refused(f"a picture has up to {MAX_BYTES} bytes")
    if data.startswith(b"\xff\xd8") and data.count(SCAN) > MAX_SCANS:
        raise _refused(f"a JPEG has up to {MAX_SCANS} scans")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _rgb(image)
            return Picture(*pixels.size, pixels.tobytes())
    except TOO_LARGE:
        raise _too_large() from None
    except UnidentifiedImageError:
        raise _refused("this is not a PNG, JPEG or WebP picture") from None
    except BROKEN:
        raise _refused("the picture is damaged or incomplete") from None


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    if max(image.size) > MAX_ASPECT * min(image.size):
        # Image encoders resize the shorter side: a row of 16,000 pixels would become 784 million.
        raise _refused(
            f"a picture is at most {MAX_ASPECT} times as wide as high, or as high as wide"
        )
    if image.mode.startswith("I"):
        # Pillow would cut off what is brighter than the 8-bit white: nearly all of it.
        raise _refused("a grey picture of more than 8 bits is not taken")


def _rgb(image: Image.Image) -> Image.Image:
    """What is see-through keeps its colour; a palette with transparency has to go by way of
    RGBA.
    """
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _too_large() -> InputError:
    return _refused(f"a picture has up to {MAX_PIXELS} pixels")


def _refused(why: str) -> InputError:
    return InputError(FIELD, why)
