"""How far an export or a run is, and where that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MEGABYTE = 1_000_000


class ProgressView(Protocol):
    """Shows the progress of stages: those of a video, or the parts of an export side by side."""

    def note(self, text: str) -> None:
        """Show a line that stays."""
        ...

    def message(self, stage: str, text: str) -> None:
        """Show what a stage without countable steps is doing."""
        ...

    def step(self, stage: str, step: int, total: int) -> None:
        """Show that ``step`` of ``total`` steps of the stage are done."""
        ...

    def done(self, stage: str, text: str) -> None:
        """Show that the stage has ended, whatever other stages do."""
        ...


def counting(view: ProgressView, stage: str, total: int) -> Callable[[int], None]:
    """Return a function that adds up bytes and shows them as megabytes out of ``total`` bytes."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        view.step(stage, done // MEGABYTE, max(total // MEGABYTE, 1))

    return add
