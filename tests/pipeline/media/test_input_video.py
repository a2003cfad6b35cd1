"""Untrusted videos are decoded correctly, or refused before they cost time or memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.families import Clip
from pipeline.media import input_video
from pipeline.media.input_video import frames_of, probe

WIDTH, HEIGHT = 64, 48
LEVELS = (20, 60, 100, 140, 180, 220)


def video(
    levels: tuple[int, ...] = LEVELS,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: Any = 8,
    streams: int = 1,
    sound: str | None = None,
) -> bytes:
    """Return a video whose frames are grey; the left upper quarter is black."""
    file = BytesIO()
    with av.open(file, "w", format=container) as made:
        each = [made.add_stream(codec, rate=rate) for _ in range(streams)]
        audio: Any = made.add_stream(sound, rate=48000) if sound else None
        for stream in each:
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for level in levels:
            pixels = np.full((size[1], size[0], 3), level, np.uint8)
            pixels[: size[1] // 2, : size[0] // 2] = 0
            for stream in each:
                made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 2048), np.int16), format="s16", layout="stereo"
            )
            silence.sample_rate = 48000
            made.mux(audio.encode(silence))
            made.mux(audio.encode())
        for stream in each:
            made.mux(stream.encode())
    return file.getvalue()


MP4 = video()


def turned(data: bytes) -> bytes:
    """Return the MP4 with the matrix of a phone that is held upright: a quarter turn clockwise."""
    matrix = data.index(b"tkhd") + 4 + 40
    one, minus = (1 << 16).to_bytes(4, "big"), (-1 << 16).to_bytes(4, "big", signed=True)
    zero, last = bytes(4), (1 << 30).to_bytes(4, "big")
    new = b"".join((zero, one, zero, minus, zero, zero, zero, zero, last))
    return data[:matrix] + new + data[matrix + 36 :]


@pytest.mark.parametrize(
    ("codec", "container", "sound"),
    [
        ("libx264", "mp4", "aac"),
        ("libx264", "matroska", None),
        ("libvpx", "webm", "libopus"),
        ("libvpx-vp9", "webm", None),
        ("mpeg4", "mp4", None),
    ],
)
def test_allowed_codecs_are_decoded(codec: str, container: str, sound: str | None) -> None:
    data = video(codec=codec, container=container, sound=sound)
    assert probe(data) == Clip(WIDTH, HEIGHT, len(LEVELS), 8)
    frames = list(frames_of(data))
    assert [
        abs(int(frame[-1, -1, 0]) - level) < 12 for frame, level in zip(frames, LEVELS, strict=True)
    ]
    assert all(frame[0, 0].max() < 30 for frame in frames)


def test_frames_are_those_asked_for_in_the_size_asked_for() -> None:
    frames = list(frames_of(MP4, 2, 5, (32, 16)))
    assert [frame.shape for frame in frames] == [(16, 32, 3)] * 3
    assert [round(float(frame[-1, -1].mean()), -1) for frame in frames] == [100, 140, 180]


def test_a_rotation_is_applied() -> None:
    data = turned(MP4)
    assert probe(data) == Clip(HEIGHT, WIDTH, len(LEVELS), 8)
    frame = next(frames_of(data))
    assert frame.shape == (WIDTH, HEIGHT, 3)
    # The black quarter was at the left above: a turn clockwise brings it to the right.
    assert frame[0, -1].max() < 30
    assert frame[0, 0].min() > 10


def test_the_frame_rate_is_rounded() -> None:
    assert probe(video(rate=Fraction(30000, 1001))).fps == 30


def refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        probe(data)
    assert caught.value.field == "input_video"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: b"", "not an MP4 or WebM video"),
        (lambda: b"GIF89a" + bytes(100), "not an MP4 or WebM video"),
        (lambda: b"#EXTM3U\nfile:///etc/passwd", "not an MP4 or WebM video"),
        (lambda: MP4[:-200], "the video has no frame"),
        (lambda: MP4[:900], "damaged, incomplete"),
        (lambda: bytes(4) + b"ftyp" + bytes(200), "damaged, incomplete|0"),
        (lambda: b"\x1a\x45\xdf\xa3" + bytes(200), "damaged, incomplete|0"),
        (lambda: video(codec="mjpeg"), "the codec is not supported; it must be h264"),
        (lambda: video(streams=2), "one video stream; this file has 2"),
        (lambda: video(streams=0, sound="aac", levels=()), "one video stream; this file has 0"),
        (lambda: video(rate=240), "1 to 120 frames per second"),
    ],
)
def test_other_files_are_refused(data: Callable[[], bytes], why: str) -> None:
    refused(data(), why)


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("MAX_BYTES", len(MP4) - 1, "at most .* bytes"),
        ("MAX_PIXELS", WIDTH * HEIGHT - 1, "at most .* pixels a frame"),
        ("MAX_FRAMES", len(LEVELS) - 1, "at most 5 frames"),
        ("CPU_LIMIT_S", 0.0, "decoding takes more than 0 seconds"),
    ],
)
def test_limits(monkeypatch: pytest.MonkeyPatch, limit: str, value: float, why: str) -> None:
    monkeypatch.setattr(input_video, limit, value)
    refused(MP4, why)


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_PIXELS", "MAX_FRAMES"])
def test_a_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    reached = {"MAX_BYTES": len(MP4), "MAX_PIXELS": WIDTH * HEIGHT, "MAX_FRAMES": len(LEVELS)}
    monkeypatch.setattr(input_video, limit, reached[limit])
    assert probe(MP4).num_frames == len(LEVELS)


def growing() -> bytes:
    """Return a WebM whose second frame is larger than its header says: VP8 allows it."""
    file = BytesIO()
    with av.open(file, "w", format="webm") as made:
        stream: Any = made.add_stream("libvpx", rate=8)
        stream.width, stream.height = WIDTH, HEIGHT
        larger: Any = av.CodecContext.create("libvpx", "w")
        larger.width, larger.height, larger.pix_fmt = 2 * WIDTH, 2 * HEIGHT, "yuv420p"
        larger.time_base = Fraction(1, 8)
        for encoder in (stream, larger):
            width, height = encoder.width, encoder.height
            frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")
            frame.pts = 0 if encoder is stream else 1
            for packet in (*encoder.encode(frame), *encoder.encode(None)):
                packet.stream = stream
                made.mux(packet)
    return file.getvalue()


def test_a_video_that_grows_is_refused() -> None:
    refused(growing(), "the size of the video changes within it")


def test_a_decoder_is_told_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_video, "MAX_PIXELS", WIDTH * HEIGHT)
    refused(growing(), "damaged, incomplete or of another codec")


def test_a_reference_to_another_file_is_not_followed(tmp_path: Any) -> None:
    """An MP4 may say that its samples are in another file ("dref"); nothing is opened for it."""
    entry = b"url \x00\x00\x00\x01"  # in this file
    assert entry in MP4
    opened: list[str] = []

    def spy(url: str, flags: int, options: dict[str, str]) -> Any:
        opened.append(url)
        raise ValueError(url)

    elsewhere = tmp_path / "secret.mp4"
    elsewhere.write_bytes(MP4)
    patched = MP4.replace(entry, b"url \x00\x00\x00\x00")
    with pytest.MonkeyPatch.context() as patch, suppress(InputError):
        patch.setattr(input_video, "_open_nothing", spy)
        probe(patched)
    assert opened == []


def test_random_damage_is_refused_or_decoded_but_never_anything_else() -> None:
    draw = random.Random(5)
    for _ in range(60):
        data = bytearray(MP4)
        for _ in range(draw.choice((1, 4, 40))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with suppress(InputError):
            probe(bytes(data))
