"""The clip that Wan's VAE encodes, in chunks: images with grey frames between them, or a video."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from itertools import islice

import numpy as np

from pipeline.ensemble.tensors import IMAGE, LAST_IMAGE, SOURCE
from pipeline.media.input_video import frames_of

CHUNK = 4
"""Frames that diffusers' encoder takes at once after the first, whatever the VAE's compression."""
GREY = 0.5
"""diffusers' value for frames without an image: 0 if -1 is black and 1 white."""


def chunk_count(num_frames: int) -> int:
    """Return the number of chunks of a clip: its first frame is the first one."""
    return 1 + (num_frames - 1) // CHUNK


def chunks(
    arrays: Mapping[str, np.ndarray], num_frames: int, size: tuple[int, int]
) -> Generator[np.ndarray]:
    """Yield a clip of ``num_frames`` frames in chunks, float32 (t, H, W, 3) with 0 for black and 1
    for white: its first frame, then four each.

    ``arrays`` hold ``IMAGE`` and ``LAST_IMAGE``, uint8 (T, H, W, 3), between which frames are grey;
    or ``SOURCE``, the bytes of a video file as uint8, whose frames are resized to ``size``, width
    and height.
    """
    if IMAGE.name in arrays:
        last = arrays.get(LAST_IMAGE.name)
        frames = _between(arrays[IMAGE.name], last, num_frames)
    else:
        frames = _scaled(frames_of(arrays[SOURCE.name].tobytes(), 0, num_frames, size))
    with closing(frames):
        for index in range(chunk_count(num_frames)):
            yield np.stack(list(islice(frames, CHUNK if index else 1)))


def _between(first: np.ndarray, last: np.ndarray | None, num_frames: int) -> Generator[np.ndarray]:
    yield from _scaled(iter(first))
    ending = () if last is None else last
    grey = np.full(first.shape[1:], GREY, np.float32)
    for _ in range(num_frames - len(first) - len(ending)):
        yield grey
    yield from _scaled(iter(ending))


def _scaled(frames: Iterator[np.ndarray]) -> Generator[np.ndarray]:
    for frame in frames:
        yield frame.astype(np.float32) / 255
