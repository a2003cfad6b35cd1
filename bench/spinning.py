"""How long the threads of OpenMP may spin while they wait for work.

    python bench/spinning.py                       all conditions; needs root for control groups
    python bench/spinning.py --repeats 9 --markdown FILE.md

Servers with each setting make the same videos alternately: on a quiet machine, beside a busy
program on each core, and under a quota of one CPU. All processes are in one control group, so that
the scheduler treats them alike. Exit code 1 when the default is far from the best anywhere.
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
from pipeline.system.child_environment import SPIN_COUNT

GOAL = 1.3
DEFAULT = f"GOMP_SPINCOUNT={SPIN_COUNT}"
SIDES = ("GOMP_SPINCOUNT=300000", "GOMP_SPINCOUNT=10000", DEFAULT, "OMP_WAIT_POLICY=PASSIVE")
"""The first is what OpenMP does by itself; the default is triton-video's."""
HEADER = ("condition", *SIDES, "default over the best", "goal", "met")
NOTES = """Seconds of a warm request to the bundled checkpoint (64x64, 17 frames, {steps} steps,
fp32) on {cores} cores, by setting: medians of {repeats} alternating runs."""
BY_SIDE = {side: Side(side) for side in SIDES}


def main(arguments: Sequence[str] | None = None) -> int:
    return report(
        arguments,
        "Spinning threads",
        NOTES,
        HEADER,
        lambda repeats, steps: (row(*each) for each in _measure(repeats, steps)),
    )


def row(condition: str, times: Times) -> list[str]:
    """Return the cells of one condition."""
    medians = {side: median(each) for side, each in times.items()}
    ratio = medians[DEFAULT] / min(medians.values())
    cells = [seconds(times[side]) for side in SIDES]
    return [condition, *cells, f"{ratio:.2f}", f"<= {GOAL:g}", table.verdict(ratio <= GOAL)]


def _measure(repeats: int, steps: int) -> Iterator[tuple[str, Times]]:
    """Yield each condition with the seconds of each side's requests."""
    threads = cores()
    with control_group(None), servers(BY_SIDE, threads) as clients:
        yield "quiet", alternate(clients, repeats, steps)
        with busy_loops(threads):
            yield f"beside {threads} busy loops", alternate(clients, repeats, steps)
    for number, what in ((threads, f"{threads} threads"), (0, "the threads of the quota")):
        with control_group(1.0), servers(BY_SIDE, number) as clients:
            yield f"quota of one CPU, {what}", alternate(clients, repeats, steps)


if __name__ == "__main__":
    sys.exit(main())
