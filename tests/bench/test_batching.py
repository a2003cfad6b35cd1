"""The table of what batching gains, and the CPU time that it counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from bench.lib import batching
from bench.lib.batching import BATCHES, CASES, Case
from bench.lib.result import HEADER
from tests.waiting import wait_for

SMALL = Case(32, 1, 2, 1)


@pytest.mark.parametrize(("ours", "met"), [(1.0, "yes"), (2.0, "yes"), (2.1, "NO")])
def test_the_ratio_is_that_of_the_throughputs(ours: float, met: str) -> None:
    times = [ours] * 3
    row = batching._compare("b", "8 clients", "fp32", times, [4.0, 9.0, 4.0], 2.0).row()
    assert len(row) == len(HEADER)
    assert row[3:5] == [f"{1000 * ours:.1f} ms", "4000.0 ms"]
    assert row[5:] == [f"{4 / ours:.2f}", ">= 2", met]


def test_passes_of_all_sizes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "CASES", (SMALL,))
    # The other tests of this process compute with the threads that they have.
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    rows = [result.row() for result in batching.passes("fp32", 1)]
    assert [row[1] for row in rows] == [
        f"pass of {each // 2} videos of 4 tokens, over one" for each in BATCHES[1:]
    ]
    assert all(float(row[5]) > 0 for row in rows)


def test_the_cases_are_sizes_of_the_bundled_model() -> None:
    assert [batching._shape(case)[2:] for case in CASES] == [(1, 8, 8), (5, 8, 8), (9, 16, 16)]


def test_cpu_time_includes_that_of_children() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as parent:
        try:
            wait_for(lambda: batching._cpu_s(parent.pid) > 0.5)
            began, before = time.process_time(), batching._cpu_s(parent.pid)
            wait_for(lambda: batching._cpu_s(parent.pid) > before + 0.2)
            assert time.process_time() - began < 5
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
