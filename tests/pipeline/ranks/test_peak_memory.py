"""The peak of this process's memory between two looks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.ranks import peak_memory
from pipeline.ranks.peak_memory import take_peak_bytes

CPU = torch.device("cpu")
BIG = 64 << 20


def test_peak_of_freed_memory_is_seen_once() -> None:
    take_peak_bytes(CPU)
    before = take_peak_bytes(CPU)
    torch.ones(BIG, dtype=torch.uint8)  # freed at once
    during, after = take_peak_bytes(CPU), take_peak_bytes(CPU)
    assert before is not None
    assert during is not None
    assert after is not None
    assert during - before > BIG // 2
    assert during - after > BIG // 2


def test_peak_that_cannot_be_reset_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "CLEAR_REFS", Path("/proc/none"))
    assert take_peak_bytes(CPU) is None
