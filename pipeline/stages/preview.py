"""Small images of videos that are being denoised, made by the decoder of the stage ``vae_decoder``.

A linear map from latents to colours would be cheaper, but is only as good as the VAE is linear:
fitted to the bundled model's it shows next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import numpy as np

from pipeline.decoders import frames_to_uint8
from pipeline.decoders.decoder import Decoder
from pipeline.media.previews import small_webp

MAX_CELLS = 32
"""Latent cells of the longer side that are decoded: 256 pixels at a compression of 8."""
SHARE = 0.01
"""The most that previews take of the time."""


class PreviewMaker:
    """Decodes estimates of `pipeline.diffusion.denoising.Sample`, in at most ``SHARE`` of the
    time.
    """

    def __init__(self, decoder: Decoder, clock: Callable[[], float] = time.monotonic) -> None:
        self._decoder, self._clock = decoder, clock
        self._warm, self._next = False, 0.0

    @property
    def due(self) -> bool:
        """Whether a preview may be made now."""
        return self._clock() >= self._next

    def make(self, estimate: np.ndarray) -> bytes:
        """Return the last frame of ``estimate``, normalised latents float32 (1, C, t, h, w), as a
        WebP file of at most `pipeline.media.previews.MAX_PREVIEW_BYTES` bytes.

        Raises ``RankError`` if the decoder's worker fails.
        """
        began = self._clock()
        try:
            with closing(self._decoder.decode(_pooled(estimate), as_uint8=True)) as chunks:
                *_, last = chunks
            return small_webp(frames_to_uint8(last[-1]))
        finally:
            ended = self._clock()
            # The first run also warms the engine up, which can take seconds.
            if self._warm:
                self._next = ended + (ended - began) * (1 / SHARE - 1)
            self._warm = True


def _pooled(latents: np.ndarray) -> np.ndarray:
    """Return ``latents`` with sides of at most ``MAX_CELLS`` cells, each the mean of a square. The
    cells that fill no square are cut off.
    """
    *leading, height, width = latents.shape
    side = -(-max(height, width) // MAX_CELLS)
    side = min(side, height, width)
    rows, columns = height // side, width // side
    cut = latents[..., : rows * side, : columns * side]
    return cut.reshape(*leading, rows, side, columns, side).mean(axis=(-3, -1))
