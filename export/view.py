"""What an export tells of its progress, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MEGABYTE = 1_000_000


class View(Protocol):
    """Stages here are parts, side by side, and what comes before and after them."""

    def note(self, text: str) -> None:
        """A line that stays."""
        ...

    def message(self, stage: str, text: str) -> None:
        """What the stage is doing."""
        ...

    def step(self, stage: str, step: int, total: int) -> None:
        """``step`` of ``total`` steps of the stage are done."""
        ...

    def done(self, stage: str, text: str) -> None:
        """The stage came to its end, whatever the others do."""
        ...


def counting(view: View, stage: str, total: int) -> Callable[[int], None]:
    """Adds up bytes, and shows them as steps of a megabyte out of ``total`` bytes."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        view.step(stage, done // MEGABYTE, max(total // MEGABYTE, 1))

    return add
