"""Decode video files, which are untrusted, within limits. Frames are never kept: callers take them
one at a time.

FFmpeg reads the file from memory with one of two demuxers and one of a few decoders. It opens
nothing else: neither files nor addresses that a container may name. The package ``pipeline.media``
does not import this module: only code that decodes videos needs PyAV.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from io import BytesIO
from itertools import islice
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.families import Clip
from pipeline.families.family import MAX_FRAMES
from pipeline.families.inputs import INPUT_VIDEO, MAX_VIDEO_BYTES

MAX_BYTES = MAX_VIDEO_BYTES
MAX_PIXELS = 3840 * 2160
MAX_FPS = 120
MAX_STREAMS = 16
CPU_LIMIT_S = 30.0
"""Processor time for one pass over a file: about a thousand frames of 1920x1080 take a third."""

DEMUXERS = {"mov": "mp4", "matroska": "matroska"}
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9", "mpeg4")
EBML, FTYP = b"\x1a\x45\xdf\xa3", b"ftyp"


def probe(data: bytes) -> Clip:
    """Decode a whole video and describe it. Raises ``InputError``."""
    with closing(_decoded(data)) as frames:
        size, fps, count = None, 0, 0
        for frame, rate in frames:
            size, fps, count = size or _displayed(frame), rate, count + 1
    if size is None:
        raise _refused("the video has no frame")
    return Clip(*size, count, fps)


def frames_of(
    data: bytes, start: int = 0, stop: int | None = None, size: tuple[int, int] | None = None
) -> Generator[np.ndarray]:
    """Yield the frames from ``start`` to ``stop``, uint8 (H, W, 3), as displayed.

    ``size``, width and height, resizes them with a Lanczos filter, as diffusers' ``VideoProcessor``
    does. Raises ``InputError``.
    """
    with closing(_decoded(data)) as frames:
        for frame, _ in islice(frames, start, stop):
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame))
            if size is not None and size != pixels.shape[1::-1]:
                image = Image.fromarray(np.ascontiguousarray(pixels))
                pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
            yield np.ascontiguousarray(pixels)


def _decoded(data: bytes) -> Generator[tuple[Any, int]]:
    """Yield each frame of PyAV, with the frames per second. Raises ``InputError``."""
    if len(data) > MAX_BYTES:
        raise _refused(f"a video has at most {MAX_BYTES} bytes")
    if data[4:8] != FTYP and not data.startswith(EBML):
        raise _refused("not an MP4 or WebM video")
    name = DEMUXERS["mov" if data[4:8] == FTYP else "matroska"]
    try:
        with av.open(
            BytesIO(data), format=name, io_open=_open_nothing,
            container_options={
                "codec_whitelist": ",".join(CODECS), "protocol_whitelist": "none",
                "max_streams": str(MAX_STREAMS), "max_probe_packets": "64",
            },
            options={"max_pixels": str(MAX_PIXELS), "threads": "1"},
        ) as container:  # fmt: skip
            stream, fps = _stream(container)
            first = None
            for count, frame in enumerate(_frames(container, stream)):
                size = frame.width, frame.height
                first = first or size
                if frame.is_corrupt:
                    raise _refused("the video is damaged or incomplete")
                if size != first:
                    raise _refused("the size of the video changes within it")
                if count == MAX_FRAMES:
                    raise _refused(f"a video has at most {MAX_FRAMES} frames")
                yield frame, fps
    except (av.FFmpegError, ValueError, MemoryError, OverflowError, LookupError):
        raise _refused("the video is damaged, incomplete or of another codec") from None


def _frames(container: Any, stream: Any) -> Generator[Any]:
    """Yield the frames of a stream. Raises ``InputError`` after ``CPU_LIMIT_S`` of decoding, which
    is without the time that the caller takes between frames.
    """
    packets, spent = container.demux(stream), 0.0
    while True:
        begun = time.thread_time()
        packet = next(packets, None)
        if packet is None:
            return
        decoded = packet.decode()
        spent += time.thread_time() - begun
        if spent > CPU_LIMIT_S:
            raise _refused(
                f"decoding takes more than {CPU_LIMIT_S:g} seconds; send a smaller video"
            )
        yield from decoded


def _stream(container: Any) -> tuple[Any, int]:
    """Return the only video stream and its frames per second. Raises ``InputError``."""
    streams = container.streams.video
    if len(streams) != 1:
        raise _refused(f"a video has one video stream; this file has {len(streams)}")
    (stream,) = streams
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        raise _refused(f"the codec is not supported; it must be {', '.join(CODECS[:5])}")
    if codec.width * codec.height > MAX_PIXELS:
        raise _refused(f"a video has at most {MAX_PIXELS} pixels a frame")
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 1 <= round(rate) <= MAX_FPS:
        raise _refused(f"a video has 1 to {MAX_FPS} frames per second")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    return stream, round(rate)


def _displayed(frame: Any) -> tuple[int, int]:
    """Return width and height after the rotation that a phone writes beside the pixels."""
    return (frame.height, frame.width) if _quarters(frame) % 2 else (frame.width, frame.height)


def _quarters(frame: Any) -> int:
    return round(frame.rotation / 90) % 4


def _open_nothing(url: str, _flags: int, _options: dict[str, str]) -> Any:
    raise ValueError(f"a video may not name another file: {url[:80]!r}")


def _refused(why: str) -> InputError:
    return InputError(INPUT_VIDEO, why)
