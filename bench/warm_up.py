"""What the warm-up of `serve` saves the first request, and what it takes.

    python bench/warm_up.py                        the bundled checkpoint, by graphs and in torch
    python bench/warm_up.py --repeats 9 --markdown FILE.md

Servers start alternately with and without the warm-up, and make three videos each. Exit code 1 when
the warm-up saves nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.result import seconds
from bench.lib.serving import BUNDLED, cores, make_video, note
from cli.runtime.embedded import EmbeddedServer
from cli.runtime.warm_up import warm_up
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import VideoClient
from pipeline.families import SamplingParams
from pipeline.settings import StageSettings

REQUESTS = 3
HEADER = ("encoders and VAE", "warm-up", "it takes", "first request", "later ones", "saves", "met")
NOTES = """Seconds of the default video of the bundled checkpoint (64x64, 17 frames, 20 steps) on
{cores} cores: medians of {repeats} alternating starts."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows: list[list[str]] = []
    for engine in ("graphs", "torch"):
        runs = measure(engine, options.repeats)
        rows += rows_of(engine, runs[False], runs[True])
    notes = NOTES.format(cores=cores(), repeats=options.repeats)
    print(notes, table.text(HEADER, rows), sep="\n\n")
    if options.markdown:
        table.save_markdown(options.markdown, "Warm-up", notes, HEADER, rows)
    return 1 if any(cells[-1] == "NO" for cells in rows) else 0


def measure(engine: str, repeats: int) -> dict[bool, list[list[float]]]:
    """Return the seconds of the warm-up and of each request, by start, with and without it."""
    in_torch = {"encoder_engine": "torch", "vae_engine": "torch"} if engine == "torch" else {}
    settings = StageSettings.model_validate({"checkpoint": str(BUNDLED), **in_torch})
    repository = prepare_repository(Checkpoint.open(BUNDLED), settings, note)
    runs: dict[bool, list[list[float]]] = {False: [], True: []}
    for _ in range(repeats):
        for warm, found in runs.items():
            with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as client:
                times = [perf_counter()]
                if warm:
                    warm_up(server.grpc_url, repository)
                times.append(perf_counter())
                for seed in range(REQUESTS):
                    make_video(client, SamplingParams(prompt=f"a red circle {seed}", seed=seed))
                    times.append(perf_counter())
            found.append([end - begin for begin, end in pairwise(times)])
    return runs


def rows_of(
    engine: str, cold: Sequence[Sequence[float]], warm: Sequence[Sequence[float]]
) -> list[list[str]]:
    """Return the cells of both sides."""
    saved = median(run[1] for run in cold) - median(run[1] for run in warm)
    return [
        [engine, "no", "-", *_requests(cold), "-", "-"],
        [
            engine, "yes", seconds([run[0] for run in warm]), *_requests(warm), f"{saved:.2f} s",
            table.verdict(saved > 0),
        ],
    ]  # fmt: skip


def _requests(runs: Sequence[Sequence[float]]) -> list[str]:
    later = [each for run in runs for each in run[2:]]
    return [seconds([run[1] for run in runs]), seconds(later)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="starts of each side")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
