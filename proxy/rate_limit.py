"""Limits the videos per key and minute, counted in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from http import HTTPStatus

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from proxy.errors import ApiError

MAX_RETRY_AFTER_S = 60


class RateLimit:
    """A moving window of one minute; ``per_minute`` 0 is no limit."""

    def __init__(self, per_minute: int):
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def hit(self, owner: str) -> dict[str, str]:
        """Count a request and return the ``x-ratelimit`` headers. Raises ``ApiError`` 429."""
        if self._item is None:
            return {}
        allowed = await self._limiter.hit(self._item, owner)
        reset, remaining = await self._limiter.get_window_stats(self._item, owner)
        wait = max(0.0, reset - time.time())
        headers = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{wait:.3f}s",
        }
        if not allowed:
            raise _too_many(self._item.amount, wait, headers)
        return headers


def _too_many(amount: int, wait: float, headers: Mapping[str, str]) -> ApiError:
    retry_after = min(MAX_RETRY_AFTER_S, max(1, math.ceil(wait)))
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Rate limit reached: {amount} videos per minute.",
        code="rate_limit_exceeded",
        headers={**headers, "retry-after": str(retry_after)},
    )
