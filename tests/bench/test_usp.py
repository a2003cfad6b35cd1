"""The benchmark of ranks, whole, on a transformer of a few channels; and the plan that its
formula gives.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.lib.scaling import H100, WAN_14B, plan, sent_bytes, step
from bench.lib.usp_cases import measure
from bench.usp import main
from pipeline.parallel.layout import Layout

TINY = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 16}
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.ranks
def test_ranks_send_the_bytes_that_the_formula_gives() -> None:
    """35 tokens do not divide, so that the padding is counted too."""
    for found in measure(TINY, [(1, 5, 7)], repeats=1):
        (run,) = found.runs
        assert run["sent"] == found.passes * sent_bytes(found.shape, found.layout).total > 0
        assert 0 < run["waited"] < run["seconds"]


def test_page_has_the_plan_that_the_formula_gives(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/scaling.md").read_text()
    assert [row for row in plan() if f"| {' | '.join(row)} |" not in page] == []
    assert main(["--plan"]) == 0
    assert capsys.readouterr().out.count("Wan 2.1 14B") == 14


@pytest.mark.parametrize(
    "layout", [Layout(2), Layout(1, 2), Layout(1, 1, 2), Layout(4, 2), Layout(8, 2)], ids=str
)
def test_ranks_share_the_arithmetic_and_no_more(layout: Layout) -> None:
    alone, shared = step(WAN_14B, Layout(), H100), step(WAN_14B, layout, H100)
    assert alone.sent == alone.waiting == 0
    assert alone.compute / layout.ranks <= shared.compute < 1.05 * alone.compute / layout.ranks
    assert shared.sent > 0
