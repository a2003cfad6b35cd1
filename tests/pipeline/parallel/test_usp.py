"""Every layout of ranks on gloo matches one rank: attention alone, and whole transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.parallel.program import LENGTHS, RANKS
from tests.pipeline.parallel.transformers import TRANSFORMERS

ROOT = Path(__file__).resolve().parents[3]
LAYOUTS = ("2x1", "1x2", "4x1", "2x2", "1x4")
CASES = [*(f"{kind} {length}" for kind in ("video", "joint") for length in LENGTHS), *TRANSFORMERS]
# Ulysses computes what one rank computes, in another order at most; Ring sums in another order.
ULYSSES_TOLERANCE, RING_TOLERANCE = 1e-5, 1e-4


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    """Return the results of each rank: layout -> case -> the largest difference."""
    folder = tmp_path_factory.mktemp("ranks")
    command = (sys.executable, "-m", "tests.pipeline.parallel.program")
    started = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for rank in range(RANKS)
    ]
    try:
        for process in started:
            _, text = process.communicate(timeout=240)
            assert process.returncode == 0, text
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.ranks
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_equals_one_rank(
    errors: list[dict[str, dict[str, float]]], layout: str, case: str
) -> None:
    tolerance = ULYSSES_TOLERANCE if layout.endswith("x1") else RING_TOLERANCE
    # Not Python's max, which passes over NaN.
    assert np.max([rank[layout][case] for rank in errors]) <= tolerance
