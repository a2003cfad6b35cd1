"""What every engine has in common: checked latents in, frames in [0, 1] out, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np

from pipeline.decoders.side_by_side import decode_tiles
from pipeline.decoders.spool import Spool
from pipeline.decoders.tiling import Tiling
from pipeline.decoders.windows import Windows

BeforeRun = Callable[[int, int], None]
"""Is called as ``before_run(i, total)`` before each of `total` runs of the engine, and may raise
to stop.
"""


class Engine(Protocol):
    """Decodes one clip, or one tile of it. May be used from several threads.

    `channels` is the number of latent channels; `frames_per_latent` that of the frames each latent
    frame but the first one becomes.
    """

    @property
    def channels(self) -> int: ...

    @property
    def frames_per_latent(self) -> int: ...

    def runs(self, latent_frames: int) -> int:
        """How many arrays `frames` gives for so many latent frames."""
        ...

    def frames(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        """Normalised latents, float32 [1, C, T, h, w], to float32 [t, H, W, 3], a run of the model
        for each.

        0 is black and 1 white; values may lie beyond, as the model makes them.
        """
        ...


class Decoder:
    """An engine, and the tiles and windows a clip is cut in where it is larger than one.

    ``more`` are engines like the first one, for tiles to be decoded side by side.
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
        self, latents: np.ndarray, before_run: BeforeRun | None = None
    ) -> Generator[np.ndarray]:
        """Normalised latents, float32 [1, C, T, h, w], to frames in [0, 1]: float32 [t, H, W, 3],
        in order.

        Nothing is left behind when `before_run` raises or the iterator is dropped. Raises
        ValueError for another shape or type.
        """
        if latents.ndim != 5 or latents.shape[:2] != (1, self.channels) or 0 in latents.shape:
            raise ValueError(
                f"latents must be [1, {self.channels}, T, h, w], not {list(latents.shape)}"
            )
        if latents.dtype != np.float32:
            raise ValueError(f"latents must be float32, not {latents.dtype}")
        return self._decode(latents, before_run or _go_on)

    def _decode(self, latents: np.ndarray, before_run: BeforeRun) -> Generator[np.ndarray]:
        windows = self._windows
        if windows is None or not windows.cuts(latents.shape[2]):
            chunks = self._clip(latents, before_run)
        else:
            chunks = windows.join(self._each(windows.spans(latents.shape[2]), latents, before_run))
        for frames in chunks:
            yield np.clip(frames, 0, 1)

    def _each(
        self, spans: list[slice], latents: np.ndarray, before_run: BeforeRun
    ) -> Iterator[np.ndarray]:
        """All frames of one window after the other."""
        for index, span in enumerate(spans):
            # A window is as many runs as the one before it, for they differ in length only.
            def within(run: int, total: int, index: int = index) -> None:
                before_run(index * total + run, len(spans) * total)

            yield np.concatenate(list(self._clip(latents[:, :, span], within)))

    def _clip(self, latents: np.ndarray, before_run: BeforeRun) -> Iterator[np.ndarray]:
        if self._tiling and self._tiling.cuts(*latents.shape[3:]):
            return self._tiled(latents, self._tiling, before_run)
        return self._whole(latents, before_run)

    def _whole(self, latents: np.ndarray, before_run: BeforeRun) -> Iterator[np.ndarray]:
        total, chunks = (
            self._engine.runs(latents.shape[2]),
            self._engine.frames(np.ascontiguousarray(latents)),
        )
        for run in range(total):
            before_run(run, total)
            yield next(chunks)

    def _tiled(
        self, latents: np.ndarray, tiling: Tiling, before_run: BeforeRun
    ) -> Iterator[np.ndarray]:
        """Tile by tile to the end of the clip: so an engine has only one tile's caches. Frames
        wait in a file.
        """
        grid = tiling.grid(*latents.shape[3:])
        tiles = [latents[..., rows, columns] for line in grid for rows, columns in line]
        with Spool() as spool, closing(decode_tiles(self._engines, tiles, before_run)) as decoded:
            for index, frames in decoded:
                spool.append(index, frames)
            for start, stop in _chunks(latents.shape[2], self.frames_per_latent):
                clips = iter([spool.read(index, start, stop) for index in range(len(tiles))])
                yield tiling.join([[next(clips) for _ in line] for line in grid])


def _go_on(_run: int, _total: int) -> None:
    """Nobody wants to know, and nobody stops it."""


def _chunks(latent_frames: int, frames_per_latent: int) -> Iterator[tuple[int, int]]:
    """First and past-the-last frame of what each latent frame becomes."""
    yield 0, 1
    for start in range(1, 1 + (latent_frames - 1) * frames_per_latent, frames_per_latent):
        yield start, start + frames_per_latent


def frames_to_uint8(frames: np.ndarray) -> np.ndarray:
    """Frames in [0, 1], any shape, to uint8 0..255: clipped, halves rounded up."""
    scaled = frames * np.float32(255)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
