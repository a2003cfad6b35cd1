"""Runs the processes of `bench/usp.py` alternately, and turns their results into table rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.lib import table
from bench.lib.scaling import Shape, sent_bytes
from bench.lib.serving import note
from bench.lib.usp_rank import LAYOUTS, RANKS
from pipeline.parallel.layout import Layout

GOAL = 1.1
HEADER = ("tokens", "Ulysses x Ring", "ratio", "sent", "by formula", "waits", "goal", "met")
CHILD = Path(__file__).with_name("usp_rank.py")
# A number is the time of as many passes as have this many tokens: short ones are at the mercy of
# other processes.
TOKENS_TIMED = 8192

Grid = tuple[int, int, int]
Run = dict[str, float]


@dataclass(frozen=True)
class Found:
    """Runs of 2 ranks, each with the run of 1 rank that was made in the same round."""

    shape: Shape
    layout: Layout
    runs: Sequence[Run]
    beside: Sequence[Run]
    passes: int = 1

    @property
    def ratios(self) -> list[float]:
        return [
            run["seconds"] / alone["seconds"]
            for run, alone in zip(self.runs, self.beside, strict=True)
        ]

    @property
    def met(self) -> bool:
        return median(self.ratios) <= GOAL

    def row(self) -> list[str]:
        ratio = f"{median(self.ratios):.2f} ({min(self.ratios):.2f}-{max(self.ratios):.2f})"
        counted = median(run["sent"] for run in self.runs) / self.passes
        sent = [
            f"{nbytes / 2**20:.2f} MiB"
            for nbytes in (counted, sent_bytes(self.shape, self.layout).total)
        ]
        waits = f"{median(run['waited'] / run['seconds'] for run in self.runs):.0%}"
        layout = f"{self.layout.ulysses} x {self.layout.ring}"
        return [
            str(self.shape.tokens),
            layout,
            ratio,
            *sent,
            waits,
            f"<= {GOAL:.2f}",
            table.verdict(self.met),
        ]


def measure(config: Mapping[str, int], grids: Sequence[Grid], repeats: int) -> Iterator[Found]:
    with _processes(config) as (alone, *ranks):
        for grid in grids:
            shape = _shape(config, grid)
            passes = max(1, TOKENS_TIMED // shape.tokens)
            runs: list[list[Run]] = []
            for turn in range(-1, repeats):
                # Every other round goes backwards, so that no side always follows the same one.
                order = range(-1, len(LAYOUTS)) if turn % 2 else range(len(LAYOUTS) - 1, -2, -1)
                done = {
                    side: _run([alone] if side < 0 else ranks, max(0, side), grid, passes)
                    for side in order
                }
                if turn >= 0:  # the first round is not counted
                    runs.append([done[side] for side in range(-1, len(LAYOUTS))])
            for side, layout in enumerate(LAYOUTS, 1):
                beside, own = [one[0] for one in runs], [one[side] for one in runs]
                found = Found(shape, layout, own, beside, passes)
                note(", ".join(found.row()))
                yield found


@contextmanager
def _processes(config: Mapping[str, int]) -> Iterator[list[subprocess.Popen[str]]]:
    """The model alone, with all threads, and its ranks, with one each."""
    with TemporaryDirectory(prefix="triton-video-bench-") as folder:
        started = [
            subprocess.Popen(
                [sys.executable, str(CHILD), place, folder, json.dumps(dict(config))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(RANKS if place == "alone" else 1)},
            )
            for place in ("alone", *map(str, range(RANKS)))
        ]  # fmt: skip
        try:
            yield started
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _run(processes: Sequence[subprocess.Popen[str]], side: int, grid: Grid, passes: int) -> Run:
    """What the first of the processes says; all have done it."""
    for process in processes:
        assert process.stdin is not None
        print(
            json.dumps({"side": side, "grid": grid, "passes": passes}),
            file=process.stdin,
            flush=True,
        )
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(process.stdout.readline())
    if not all(answers):
        raise RuntimeError("a process ended; what it said stands above")
    return json.loads(answers[0])


def _shape(config: Mapping[str, int], grid: Grid) -> Shape:
    heads, width = config["num_attention_heads"], config["attention_head_dim"]
    tokens = grid[0] * grid[1] * grid[2]
    return Shape("", tokens, config["num_layers"], heads, width, config["ffn_dim"], item=4)
