"""One transformer on 2 ranks of 1 thread, over the same on 1 rank of 2 threads; or what to expect
on GPUs.

    python bench/usp.py                            1k, 4k and 16k tokens; needs 2 cores
    python bench/usp.py --plan --markdown FILE.md  the table of docs/scaling.md, which is worked out

The sides run alternately, each in separate processes. The bytes that a rank sends are counted,
and stand beside what the formula says, which is what the plan is made of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lib import table
from bench.lib.scaling import H100, PLAN_HEADER, plan
from bench.lib.usp_cases import HEADER, Grid, measure

CONFIG = {"num_layers": 2, "num_attention_heads": 8, "attention_head_dim": 64, "ffn_dim": 1408}
GRIDS = ((4, 16, 16), (4, 32, 32), (16, 32, 32))  # frames, rows and columns of tokens
NOTES = """Forward passes of a random Wan transformer ({config}) in fp32 on gloo: 2 ranks of 1
thread over 1 rank of 2 threads, median of {repeats} ratios of runs that followed each other, with
the smallest and largest. Sent is what one rank sends in one pass. Waits is the share of the time in
which rank 0 was in a collective, be it for bytes or for the other rank."""
PLAN_NOTES = """Worked out, not measured: published figures of H100s, {compute:.0%} of the peak of
their arithmetic and {link:.0%} of that of their links. Sent is by one GPU in one guided step."""


def main(
    arguments: Sequence[str] | None = None,
    config: Mapping[str, int] = CONFIG,
    grids: Sequence[Grid] = GRIDS,
) -> int:
    options = _options(arguments)
    if options.plan:
        notes = PLAN_NOTES.format(compute=H100.compute_share, link=H100.link_share)
        return _show(options.markdown, "What to expect on GPUs", notes, PLAN_HEADER, list(plan()))
    found = list(measure(config, grids, options.repeats))
    rows = [each.row() for each in found]
    about = "{num_layers} blocks, {num_attention_heads} heads of {attention_head_dim}".format(
        **config
    )
    _show(
        options.markdown, "Ranks", NOTES.format(config=about, repeats=options.repeats), HEADER, rows
    )
    return 0 if all(each.met for each in found) else 1


def _show(
    markdown: Path | None, title: str, notes: str, header: table.Row, rows: Sequence[table.Row]
) -> int:
    print(table.text(header, rows))
    if markdown:
        table.save_markdown(markdown, title, notes, header, rows)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--plan", action="store_true", help="measure nothing; work out steps on H100s"
    )
    parser.add_argument("--repeats", type=int, default=3, help="forward passes per number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
