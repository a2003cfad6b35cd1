"""Measures the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Callable

STAGES = ("prepare", "start", "denoise", "decode")


class Stopwatch:
    """Seconds per stage. A stage lasts until the next one begins."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._began = self._since = clock()
        self._stage: str | None = None
        self._seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    def enter(self, stage: str | None) -> None:
        """End the current stage and begin another one, or none."""
        now = self._clock()
        if self._stage is not None:
            self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def seconds(self) -> dict[str, float]:
        """End the current stage and return the seconds of each, and the total."""
        self.enter(None)
        total = self._clock() - self._began
        return {
            stage: round(value, 3) for stage, value in {**self._seconds, "total": total}.items()
        }
