"""NVIDIA's management library (NVML) as far as it is opened and closed."""

# ruff: noqa: N802 - NVML's own names

from __future__ import annotations


class FakeNvml:
    """Counts how often it is open; a ``broken`` one cannot be opened."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.open = broken, 0

    def nvmlInit_v2(self) -> int:
        self.open += not self.broken
        return int(self.broken)

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0
