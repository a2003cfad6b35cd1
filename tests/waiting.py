"""Waits for a condition that another process, thread or task brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

INTERVAL_S, ASYNC_INTERVAL_S = 0.02, 0.01


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


async def async_wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Return the value of ``condition``, plain or awaited, once it is true.

    Raises TimeoutError after ``seconds``, also while ``condition`` itself waits.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if value := await found if isinstance(found, Awaitable) else found:
                return value
            await asyncio.sleep(ASYNC_INTERVAL_S)
