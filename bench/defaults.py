"""The defaults of a CPU beside those of earlier versions: float32, and threads that spin.

    python bench/defaults.py                       needs root for control groups
    python bench/defaults.py --repeats 9 --markdown FILE.md

Servers with each setting make the same videos alternately, on a quiet machine and beside a busy
program on each core. Exit code 1 when a new default is slower than the old one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.alternating import Side, Times, alternate, servers
from bench.lib.busy_machine import CPU_GROUPS, busy_loops, control_group
from bench.lib.result import seconds
from bench.lib.serving import cores
from cli.run.devices import Hardware

GOAL = 1.15
OLD = "fp32, OpenMP spins (old)"
SIDES = {OLD: Side("GOMP_SPINCOUNT=300000"), "fp32": Side(), "bf16": Side(precision="bf16")}
HEADER = ("condition", *SIDES, "new over old", "goal", "met")
NOTES = """Seconds of a warm request to the bundled checkpoint (64x64, 17 frames, {steps} steps) on
{cores} cores: medians of {repeats} alternating runs. New is {new}, the default of this CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if not os.access(CPU_GROUPS, os.W_OK):
        print(f"skipped: {CPU_GROUPS} is not writable; it needs root and control groups 1")
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    new = "bf16" if Hardware.measure(gpu=False).cpu_bf16 else "fp32"
    rows = [row(name, times, new) for name, times in _measure(options.repeats, options.steps)]
    notes = NOTES.format(steps=options.steps, cores=cores(), repeats=options.repeats, new=new)
    print(notes, table.text(HEADER, rows), sep="\n\n")
    if options.markdown:
        table.save_markdown(options.markdown, "The defaults of a CPU", notes, HEADER, rows)
    return 1 if any(cells[-1] == "NO" for cells in rows) else 0


def row(condition: str, times: Times, new: str) -> list[str]:
    """Return the cells of one condition; ``new`` is the side that has the defaults."""
    ratio = median(times[new]) / median(times[OLD])
    cells = [seconds(times[side]) for side in SIDES]
    return [condition, *cells, f"{ratio:.2f}", f"<= {GOAL:g}", table.verdict(ratio <= GOAL)]


def _measure(repeats: int, steps: int) -> Iterator[tuple[str, Times]]:
    threads = cores()
    with control_group(None), servers(SIDES, threads) as clients:
        yield "quiet", alternate(clients, repeats, steps)
        with busy_loops(threads):
            yield f"beside {threads} busy loops", alternate(clients, repeats, steps)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="requests per number")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a request")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
