"""The memory plan beside the measured peak of `generate` on a CPU.

    python bench/memory.py                     all cases
    python bench/memory.py --only wan2.1       one family
    python bench/memory.py --engines torch     without an export
    python bench/memory.py --markdown FILE.md

The checkpoints are random, with the published VAEs and transformers of the published widths and a
few layers. Measured is the proportional set size of all processes. Graphs are exported first,
which takes minutes. Exit code 1 when a plan is more than 15 % off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.planned import Outcome, run
from bench.lib.wide_checkpoints import write
from pipeline.byte_sizes import human_size

HEADER = ("checkpoint", "engine", "planned", "measured", "ratio", "largest process", "met")
ENGINES = {"torch": "torch", "graph": "chunked"}
"""Engines of the encoders, each with that of the VAE."""
SIZES = {"wan2.1-t2v": (416, 240, 9), "wan2.2-ti2v": (384, 256, 9), "hunyuan-video": (256, 128, 17)}
"""Width, height and frames of each family's video."""
GOAL = 0.15


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="families whose name begins so")
    parser.add_argument("--engines", default="torch,graph")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    rows, met = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for family in (name for name in SIZES if name.startswith(options.only)):
            checkpoint = write(family, Path(scratch) / family)
            for engine in options.engines.split(","):
                outcome = run(checkpoint, _flags(family, engine))
                met.append(abs(outcome.ratio - 1) <= GOAL)
                rows.append(_row(family, engine, outcome, met=met[-1]))
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = "Planned and measured memory of one video on a CPU."
        table.save_markdown(options.markdown, "The memory plan", notes, HEADER, rows)
    return 0 if all(met) else 1


def _flags(family: str, engine: str) -> list[str]:
    width, height, frames = SIZES[family]
    flags = ["--width", str(width), "--height", str(height), "--num-frames", str(frames)]
    flags += ["--encoder-engine", engine, "--vae-engine", ENGINES[engine]]
    return [*flags, "--num-inference-steps", "2"]


def _row(family: str, engine: str, outcome: Outcome, *, met: bool) -> list[str]:
    largest, size = max(outcome.peaks.parts.items(), key=lambda item: item[1])
    sizes = (human_size(outcome.planned), human_size(outcome.peaks.total))
    ratio, verdict = f"{outcome.ratio:.2f}", table.verdict(met)
    return [family, engine, *sizes, ratio, f"{largest} {human_size(size)}", verdict]


if __name__ == "__main__":
    sys.exit(main())
