"""The memory of processes is that of the watched one and its children, while tritonserver runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.lib import process_memory
from bench.lib.process_memory import Peaks, sizes_below
from tests.waiting import wait_for

MIB = 1 << 20
HOLDS = "x = bytearray(80 << 20); x[::4096] = b'1' * len(x[::4096]); input()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", f"print(flush=True); {HOLDS}"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_children_count(child: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: sum(sizes_below(child.pid).values()) > 80 * MIB)
    alone = sum(sizes_below(child.pid).values())
    assert 80 * MIB < alone < 160 * MIB
    assert sum(sizes_below(os.getpid()).values()) > alone


def test_peaks_are_those_of_the_sum_and_of_each_part() -> None:
    peaks = Peaks()
    for sizes in ({"a": 5, "b": 1}, {"a": 3, "b": 4}, {"a": 1, "b": 2}):
        peaks.note(sizes)
    assert (peaks.total, peaks.at_total, peaks.parts) == (7, {"a": 3, "b": 4}, {"a": 5, "b": 4})


def test_samples_without_a_server_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = iter([{"python": 9}, {"python": 2, "tritonserver": 3}])
    monkeypatch.setattr(process_memory, "sizes_below", lambda root: next(samples, {}))
    with process_memory.watched(1) as peaks:
        while not peaks.total:
            pass
    assert peaks.total == 5
