"""Bounds responses that stay open until a video is finished: event streams and sync requests."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

from proxy.errors import RETRY_AFTER_S, ApiError
from proxy.intake import server_busy


class Streams:
    """Counts the open streams of this process, in total and per key."""

    def __init__(self, limit: int, limit_per_key: int):
        self.limit = limit
        self._limit_per_key = limit_per_key
        self._open: Counter[str] = Counter()

    def open(self, owner: str) -> None:
        """Count a stream. Raises ``ApiError``: 429 at the key's limit, 503 at the total limit."""
        if self._open[owner] >= self._limit_per_key:
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This key has too many open streams; up to {self._limit_per_key} are allowed.",
                code="too_many_streams",
                headers={"retry-after": RETRY_AFTER_S},
            )
        if self._open.total() >= self.limit:
            raise server_busy("The server has too many open streams; poll, or try again soon.")
        self._open[owner] += 1

    def close(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]
