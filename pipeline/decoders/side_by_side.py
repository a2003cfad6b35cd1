"""Tiles decoded by several engines in parallel, each on its own device."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np

from pipeline.decoders.engine import BeforeRun, Engine


@dataclass(frozen=True)
class _Tile:
    """A tile that ``engine`` decodes; ``chunks`` still has ``left`` runs to yield."""

    index: int
    engine: Engine
    chunks: Iterator[np.ndarray]
    left: int


def decode_tiles(
    engines: Sequence[Engine], tiles: Sequence[np.ndarray], before_run: BeforeRun
) -> Generator[tuple[int, np.ndarray]]:
    """Yield the tile's index and the frames of each run: the runs of one tile in order, the tiles
    interleaved.

    Calls ``before_run`` in this thread. When it raises, or the generator is closed, waits for the
    active runs and starts no others.
    """
    waiting = iter(enumerate(tiles))
    runs = engines[0].runs(tiles[0].shape[2])
    begun, total = 0, len(tiles) * runs
    at_work: dict[Future[np.ndarray], _Tile] = {}

    def begin(tile: _Tile) -> None:
        nonlocal begun
        before_run(begun, total)
        begun += 1
        at_work[pool.submit(next, tile.chunks)] = tile

    def take(engine: Engine) -> None:
        """Start the next waiting tile, if there is one."""
        for index, latents in waiting:
            begin(_Tile(index, engine, engine.frames(np.ascontiguousarray(latents)), runs))
            return

    with ThreadPoolExecutor(len(engines), "decode") as pool:
        for engine in engines:
            take(engine)
        while at_work:
            done, _ = wait(at_work, return_when=FIRST_COMPLETED)
            for future in done:
                tile = at_work.pop(future)
                frames = future.result()
                if tile.left > 1:
                    begin(_Tile(tile.index, tile.engine, tile.chunks, tile.left - 1))
                else:
                    take(tile.engine)
                yield tile.index, frames
