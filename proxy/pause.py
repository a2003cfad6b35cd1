"""A pause between two jobs, in which another thread restarts this process's Triton."""

from __future__ import annotations

from collections.abc import Callable


class Pause:
    """Holds new jobs back, in the queue, from `begin` to `end`. Safe to call from any thread."""

    def __init__(self) -> None:
        self._holding = False
        self._count: Callable[[], int] = int

    @property
    def holding(self) -> bool:
        """Whether new jobs are held back."""
        return self._holding

    def count_with(self, running: Callable[[], int]) -> None:
        """Count running jobs with ``running``."""
        self._count = running

    def begin(self) -> bool:
        """Hold new jobs back; return whether this was so before, and no job runs any more."""
        before, self._holding = self._holding, True
        return before and self._count() == 0

    def end(self) -> None:
        """Let new jobs begin."""
        self._holding = False
