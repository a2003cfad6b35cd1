"""Untrusted reference images are decoded correctly, or refused before they cost time or memory."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from io import BytesIO

import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.media import reference_image as decoding
from pipeline.media.reference_image import ReferenceImage, decode

RED, BLUE = (250, 0, 0), (0, 0, 250)


def halves(size: tuple[int, int] = (48, 32), mode: str = "RGB") -> Image.Image:
    """Return an image that is red on the left and blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(image: ReferenceImage, x: int, y: int) -> tuple[int, ...]:
    start = 3 * (y * image.width + x)
    return tuple(image.rgb[start : start + 3])


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 30 for a, b in zip(one, other, strict=True))


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG file whose header claims ``width`` x ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def refusal(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        decode(data)
    assert caught.value.field == "input_reference"
    return str(caught.value)


MODES = {"PNG": "RGB RGBA L LA P 1", "JPEG": "RGB L CMYK", "WEBP": "RGB RGBA L LA P"}


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes.split()]
)
def test_every_format_and_mode_becomes_rgb(kind: str, mode: str) -> None:
    image = decode(encoded(halves(mode=mode), kind))
    assert (image.width, image.height, len(image.rgb)) == (48, 32, 48 * 32 * 3)
    if mode not in ("L", "LA", "1"):
        assert near(pixel(image, 5, 5), RED)
        assert near(pixel(image, 43, 27), BLUE)


def test_a_palette_with_transparency_becomes_rgb() -> None:
    data = encoded(halves(mode="P"), transparency=bytes([0, 128] + [255] * 254))
    assert near(pixel(decode(data), 43, 27), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_is_rotated_as_its_exif_says(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image = decode(encoded(halves(), kind, exif=exif))
    assert (image.width, image.height) == (32, 48)
    assert near(pixel(image, 16, 5), RED)
    assert near(pixel(image, 16, 43), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), BLUE)] * 3
    data = encoded(Image.new("RGB", (16, 16), RED), kind, save_all=True, append_images=frames)
    assert near(pixel(decode(data), 8, 8), RED)


def test_the_same_pixels_have_the_same_digest() -> None:
    png, webp = decode(encoded(halves())), decode(encoded(halves(), "WEBP", lossless=True))
    assert png.digest == webp.digest != decode(encoded(halves((32, 48)))).digest


@pytest.mark.parametrize("size", [(16_000, 1), (1, 16_000), (33 * 8, 8)])
def test_an_extreme_aspect_ratio_is_refused(size: tuple[int, int]) -> None:
    """The image encoder would enlarge the shorter side: 8 GB of memory and 34 s for a file of a
    hundred bytes.
    """
    assert "at most 32 times as wide as high" in refusal(encoded(Image.new("RGB", size, RED)))
    assert decode(encoded(halves((32 * 8, 8)))).size == (256, 8)


@pytest.mark.parametrize(
    "size", [(50_000, 50_000), (11_000, 11_000), (decoding.MAX_PIXELS + 1, 1), (6000, 6000)]
)
def test_a_decompression_bomb_is_refused_by_its_header(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is refused before any pixel is decoded."""
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("pixels were made"))
    assert "pixels" in refusal(png_claiming(*size))


def test_a_webp_decompression_bomb_is_refused() -> None:
    """A file of a hundred bytes claims 16383 x 16383 pixels."""
    head = (
        b"VP8L"
        + struct.pack("<I", 10)
        + b"\x2f"
        + struct.pack("<I", 16382 | 16382 << 14)
        + bytes(5)
    )
    refusal(b"RIFF" + struct.pack("<I", 4 + len(head)) + b"WEBP" + head)


def test_a_jpeg_with_too_many_scans_is_refused() -> None:
    """A scan of a dozen bytes costs a pass over the whole image."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    scan, end = data.rfind(decoding.JPEG_SCAN), data.rfind(b"\xff\xd9")
    assert "scans" in refusal(data[:end] + data[scan:end] * decoding.MAX_SCANS + data[end:])
    assert decode(data).width == 64


def test_a_large_file_is_refused() -> None:
    """A file of more than ``MAX_BYTES`` is refused."""
    assert "bytes" in refusal(encoded(halves()) + bytes(decoding.MAX_BYTES))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    """A file that ends early is refused, wherever it ends."""
    data = encoded(Image.effect_noise((64, 64), 100).convert("RGB"), kind)
    for share in (0.05, 0.3, 0.5, 0.9):
        refusal(data[: int(share * len(data))])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    assert "not a PNG, JPEG or WebP" in refusal(encoded(halves(), kind))


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"<svg/>", b"\0\0\0\x18ftypisom", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_data_that_is_not_an_image_is_refused(data: bytes) -> None:
    assert "not a PNG, JPEG or WebP" in refusal(data)


def test_sixteen_bit_grey_is_refused_rather_than_truncated() -> None:
    assert "8 bits" in refusal(encoded(Image.new("I;16", (8, 8), 40_000)))


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow warns about a corrupt EXIF, and ignores it
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_file_decodes_or_raises_input_error(kind: str) -> None:
    """Damage anywhere in a file causes no other exception."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data, rng = encoded(halves(), kind, exif=exif), random.Random(kind)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        with suppress(InputError):
            decode(bytes(broken))
