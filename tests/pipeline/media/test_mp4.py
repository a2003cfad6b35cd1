"""Frames are encoded as MP4."""

from __future__ import annotations

import io
import os

import av
import numpy as np
import pytest

from pipeline.media.mp4 import Mp4Writer


def clip(frames: int, height: int, width: int) -> np.ndarray:
    """Return a bright bar that moves over a dark background, which H.264 preserves well."""
    video = np.full((frames, height, width, 3), 40, np.uint8)
    for index in range(frames):
        video[index, :, index : index + 8] = 200
    return video


@pytest.mark.parametrize(("height", "width", "fps"), [(32, 48, 8), (64, 64, 16), (16, 16, 24)])
def test_size_frames_and_rate_are_preserved(height: int, width: int, fps: int) -> None:
    frames = clip(9, height, width)
    with Mp4Writer(width, height, fps) as writer:
        writer.add(frames[:1])
        writer.add(frames[1:])
        mp4 = writer.finish()
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (width, height, fps)
        decoded = np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 4


def test_moov_comes_before_mdat() -> None:
    with Mp4Writer(32, 32, 8) as writer:
        writer.add(clip(5, 32, 32))
        mp4 = writer.finish()
    assert mp4[4:8] == b"ftyp"
    assert 0 < mp4.find(b"moov") < mp4.find(b"mdat")


def test_leaving_the_block_early_closes_all_files() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, not paths

    before = open_files()
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), Mp4Writer(32, 32, 8) as writer:  # noqa: PT012 - the block is the point
            writer.add(clip(2, 32, 32))
            raise KeyboardInterrupt
    assert open_files() == before


def test_the_same_frames_make_the_same_file() -> None:
    """x264's macroblock tree encodes some small frames differently each time."""
    y, x = np.mgrid[:64, :64]
    discs = [np.hypot(x - 14 - 2 * step, y - 28) < 13 for step in range(17)]
    paint = np.random.default_rng(0).integers(-3, 4, (17, 64, 64, 3))
    frames = np.where(np.stack(discs)[..., None], (220, 30, 30), (250, 250, 250)) + paint

    def encoded() -> bytes:
        with Mp4Writer(64, 64, 8) as writer:
            writer.add(frames.clip(0, 255).astype(np.uint8))
            return writer.finish()

    assert len({encoded() for _ in range(60)}) == 1
