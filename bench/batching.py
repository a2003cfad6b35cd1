"""What batching gains: passes of the transformer by batch size, and a server with several clients.

    python bench/batching.py                       both parts, both precisions
    python bench/batching.py --only a              a: passes, b: servers
    python bench/batching.py --clients 8 --markdown FILE.md

Part a measures CPU seconds of one pass on one thread. In part b a server without batching and one
with batches of `--clients` share one core, the clients use the others, and each client asks for its
next video when it has one. CPU seconds are those of tritonserver and all its processes: on a core
that is always busy, their inverse is the throughput. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.result import HEADER, Result
from bench.lib.serving import PRECISIONS, cores

PARTS = ("a", "b")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # Read when torch is loaded, which is why the parts are imported afterwards.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    results = sorted(_measure(options), key=lambda result: result.part)
    rows = [result.row() for result in results]
    print(table.text(HEADER, rows))
    if options.markdown:
        notes = (
            f"{cores()} cores, one thread; {options.clients} clients, {options.rounds} alternating "
            "rounds. CPU seconds of a video: in batches, beside alone; ratio of the throughputs."
        )
        table.save_markdown(options.markdown, "Batching", notes, HEADER, rows)
    return 1 if any(result.met is False for result in results) else 0


def _measure(options: argparse.Namespace) -> Iterator[Result]:
    from bench.lib import batching

    for precision in options.precisions:
        if "a" in options.only:
            yield from batching.passes(precision, options.repeats)
        if "b" in options.only:
            yield from batching.servers(precision, options.clients, options.rounds)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=list(PRECISIONS))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2, help="of the servers, alternating")
    parser.add_argument("--repeats", type=int, default=9, help="of each pass")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
