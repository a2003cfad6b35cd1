"""The clip that Wan's VAE encodes of a reference image: the image, then grey frames, in chunks."""

from __future__ import annotations

CHUNK = 4
"""Frames that diffusers' encoder takes at once after the first, whatever the VAE's compression."""
GREY = 0.5
"""diffusers' value for frames without an image: 0 if -1 is black and 1 white."""


def chunk_count(num_frames: int) -> int:
    """Return the number of chunks of a clip: the image is the first one."""
    return 1 + (num_frames - 1) // CHUNK
