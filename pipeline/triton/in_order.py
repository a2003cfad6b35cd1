"""Work that outlasts ``execute``: one request at a time, in order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from pipeline.errors import ServerError


class InOrder:
    """Runs the work of requests in a thread, so that ``execute`` can take other requests meanwhile:
    progress that must be forwarded does not wait for a decoder that runs for minutes.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: dict[Future[None], AbstractContextManager[Any]] = {}

    def submit(self, stream: AbstractContextManager[Any], work: Callable[[], None]) -> None:
        """Run ``work`` within ``stream``, which ends the request, after all earlier work."""

        def run() -> None:
            with stream:
                work()

        future = self._thread.submit(run)
        self._waiting[future] = stream
        future.add_done_callback(self._done)

    def close(self) -> None:
        """Fail what has not begun with ``ServerError``, and wait for the work that runs."""
        waiting = dict(self._waiting)
        self._thread.shutdown(wait=False, cancel_futures=True)
        for future, stream in waiting.items():
            if future.cancelled():
                error = ServerError("the server is stopping")
                stream.__exit__(type(error), error, None)
        self._thread.shutdown()

    def _done(self, future: Future[None]) -> None:
        del self._waiting[future]
