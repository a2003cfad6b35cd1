"""The defaults of a CPU beside those of earlier versions: float32, and threads that spin.

    python bench/defaults.py                       needs root for control groups
    python bench/defaults.py --repeats 9 --markdown FILE.md

Servers with each setting make the same videos alternately, on a quiet machine and beside a busy
program on each core. Exit code 1 when a new default is slower than the old one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.alternating import Side, Times, alternate, report, servers
from bench.lib.busy_machine import busy_loops, control_group
from bench.lib.result import seconds
from bench.lib.serving import cores
from cli.run.devices import Hardware

GOAL = 1.15
OLD = "fp32, OpenMP spins (old)"
SIDES = {OLD: Side("GOMP_SPINCOUNT=300000"), "fp32": Side(), "bf16": Side(precision="bf16")}
HEADER = ("condition", *SIDES, "new over old", "goal", "met")
NOTES = """Seconds of a warm request to the bundled checkpoint (64x64, 17 frames, {steps} steps) on
{cores} cores: medians of {repeats} alternating runs."""


def main(arguments: Sequence[str] | None = None) -> int:
    new = "bf16" if Hardware.measure(gpu=False).cpu_bf16 else "fp32"
    return report(
        arguments,
        "The defaults of a CPU",
        f"{NOTES} New is {new}, the default of this CPU.",
        HEADER,
        lambda repeats, steps: (row(*each, new) for each in _measure(repeats, steps)),
    )


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


if __name__ == "__main__":
    sys.exit(main())
