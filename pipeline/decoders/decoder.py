"""Decode latents with any engine: check them, and yield frames in [0, 1], whole or in tiles."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import numpy as np

from pipeline.decoders.engine import BeforeRun, Engine
from pipeline.decoders.side_by_side import decode_tiles
from pipeline.decoders.spool import Spool
from pipeline.decoders.tiling import Tiling
from pipeline.decoders.windows import Windows


class Decoder:
    """Decodes clips of any size; clips larger than a tile or a window are split.

    ``more`` are further engines like the first, which decode tiles in parallel.
    """

    def __init__(
        self,
        engine: Engine,
        tiling: Tiling | None = None,
        windows: Windows | None = None,
        more: Sequence[Engine] = (),
    ) -> None:
        self._engine, self._tiling, self._windows = engine, tiling, windows
        self._engines = (engine, *more)
        self.channels: int = engine.channels
        self.frames_per_latent: int = engine.frames_per_latent

    def decode(
        self,
        latents: np.ndarray,
        before_run: BeforeRun | None = None,
        *,
        as_uint8: bool = False,
    ) -> Generator[np.ndarray]:
        """Decode normalised latents, float32 [1, C, T, h, w], to frames in [0, 1]: float32 [t, H,
        W, 3], in order.

        With ``as_uint8`` they may be uint8 from 0 to 255: some engines convert them on the device.
        Leaves no files when ``before_run`` raises or the iterator is dropped. Raises ``ValueError``
        for another shape or type.
        """
        if latents.ndim != 5 or latents.shape[:2] != (1, self.channels) or 0 in latents.shape:
            raise ValueError(
                f"latents must be [1, {self.channels}, T, h, w], not {list(latents.shape)}"
            )
        if latents.dtype != np.float32:
            raise ValueError(f"latents must be float32, not {latents.dtype}")
        return self._decode(latents, before_run or _continue, as_uint8=as_uint8)

    def _decode(
        self, latents: np.ndarray, before_run: BeforeRun, *, as_uint8: bool
    ) -> Generator[np.ndarray]:
        windows = self._windows
        if windows is None or not windows.cuts(latents.shape[2]):
            chunks = self._clip(latents, before_run, as_uint8=as_uint8)
        else:
            chunks = windows.join(self._each(windows.spans(latents.shape[2]), latents, before_run))
        for frames in chunks:
            yield frames if frames.dtype == np.uint8 else np.clip(frames, 0, 1)

    def _each(
        self, spans: list[slice], latents: np.ndarray, before_run: BeforeRun
    ) -> Iterator[np.ndarray]:
        """Yield all frames of each window, in order."""
        for index, span in enumerate(spans):
            # Every window takes the same number of runs: they differ only in length.
            def within(run: int, total: int, index: int = index) -> None:
                before_run(index * total + run, len(spans) * total)

            yield np.concatenate(list(self._clip(latents[:, :, span], within)))

    def _clip(
        self, latents: np.ndarray, before_run: BeforeRun, *, as_uint8: bool = False
    ) -> Iterator[np.ndarray]:
        if self._tiling and self._tiling.cuts(*latents.shape[3:]):
            return self._tiled(latents, self._tiling, before_run)
        return self._whole(latents, before_run, as_uint8=as_uint8)

    def _whole(
        self, latents: np.ndarray, before_run: BeforeRun, *, as_uint8: bool
    ) -> Iterator[np.ndarray]:
        total = self._engine.runs(latents.shape[2])
        chunks = self._engine.frames(np.ascontiguousarray(latents), as_uint8=as_uint8)
        for run in range(total):
            before_run(run, total)
            yield next(chunks)

    def _tiled(
        self, latents: np.ndarray, tiling: Tiling, before_run: BeforeRun
    ) -> Iterator[np.ndarray]:
        """Decode each tile to the end of the clip, so that an engine holds the caches of only one
        tile. Decoded frames are kept in a file until all tiles are done.
        """
        grid = tiling.grid(*latents.shape[3:])
        tiles = [latents[..., rows, columns] for line in grid for rows, columns in line]
        with Spool() as spool, closing(decode_tiles(self._engines, tiles, before_run)) as decoded:
            for index, frames in decoded:
                spool.append(index, frames)
            for start, stop in _chunks(latents.shape[2], self.frames_per_latent):
                clips = iter([spool.read(index, start, stop) for index in range(len(tiles))])
                yield tiling.join([[next(clips) for _ in line] for line in grid])


def _continue(_run: int, _total: int) -> None:
    """Do nothing, so that the decoding continues: the default of ``before_run``."""


def _chunks(latent_frames: int, frames_per_latent: int) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each latent frame, and the one past its last."""
    yield 0, 1
    for start in range(1, 1 + (latent_frames - 1) * frames_per_latent, frames_per_latent):
        yield start, start + frames_per_latent


def frames_to_uint8(frames: np.ndarray) -> np.ndarray:
    """Convert frames in [0, 1], of any shape, to uint8 0..255: clipped, halves rounded up. Frames
    in uint8 are returned as they are.
    """
    if frames.dtype == np.uint8:
        return frames
    scaled = frames * np.float32(255)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
