"""Waits for a condition that another process or thread brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_S = 0.02


def comes_about(condition: Callable[[], object], seconds: float) -> bool:
    """Poll ``condition`` for at most ``seconds`` and return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(INTERVAL_S)
    return True


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    """Return once ``condition`` is true. Raises AssertionError after ``seconds``."""
    assert comes_about(condition, seconds), f"it did not come true within {seconds:g} s"
