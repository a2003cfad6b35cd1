"""Several engines decode tiles concurrently."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.decoders.side_by_side import decode_tiles


class Counting:
    """An engine whose frames hold their tile's number and the index of the run. Each run waits at
    the barrier ``meeting``.
    """

    channels, frames_per_latent = 1, 1

    def __init__(
        self, meeting: threading.Barrier | None = None, failing: int | None = None
    ) -> None:
        self.meeting, self.failing = meeting, failing
        self.threads: set[int] = set()

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        for run in range(latents.shape[2]):
            self.threads.add(threading.get_ident())
            if self.meeting:
                self.meeting.wait(10)
            if latents[0, 0, 0, 0, 0] == self.failing:
                raise MemoryError(f"tile {self.failing}")
            yield np.array([latents[0, 0, 0, 0, 0], run])


TILES = [np.full((1, 1, 3, 1, 1), index, np.float32) for index in range(4)]
RUNS = [(index, [index, run]) for index in range(4) for run in range(3)]


def decoded(*engines: Counting) -> list[tuple[int, list[int]]]:
    return [
        (index, frames.tolist())
        for index, frames in decode_tiles(engines, TILES, lambda run, total: None)
    ]


def test_one_engine_decodes_tiles_sequentially() -> None:
    assert decoded(Counting()) == RUNS


def test_two_engines_run_concurrently_and_frames_of_a_tile_keep_their_order() -> None:
    """A run continues only when the other engine is in a run, too."""
    meeting = threading.Barrier(2)
    made = decoded(Counting(meeting), Counting(meeting))
    assert sorted(made) == RUNS
    for tile in range(4):
        assert [frames for index, frames in made if index == tile] == [
            [tile, run] for run in range(3)
        ]


def test_more_engines_than_tiles_are_allowed() -> None:
    assert sorted(decoded(*[Counting() for _ in range(9)])) == RUNS


def test_an_engine_error_is_raised_and_all_threads_end() -> None:
    with pytest.raises(MemoryError, match="tile 2"):
        decoded(Counting(failing=2), Counting())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
