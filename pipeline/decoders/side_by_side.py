"""Tiles decoded by several engines at once, each engine on a device of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.decoders.decoder import BeforeRun, Engine


@dataclass(frozen=True)
class _Tile:
    """A tile that ``engine`` is at: ``left`` runs of it are still to come from ``chunks``."""

    index: int
    engine: Engine
    chunks: Iterator[np.ndarray]
    left: int


def decode_tiles(
    engines: Sequence[Engine], tiles: Sequence[np.ndarray], before_run: BeforeRun
) -> Generator[tuple[int, np.ndarray]]:
    """Each tile's index and frames, run by run: the runs of one tile in order, the tiles mixed.

    ``before_run`` is called in this thread. When it raises, or nobody wants more, the runs under
    way are waited for and no other begins.
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
        """The next tile that nobody is at, if there is one."""
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
