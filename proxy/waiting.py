"""Waiting that ends early."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Whether the event comes in time. Not wait_for: before Python 3.12 that may lose a cancellation."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()
