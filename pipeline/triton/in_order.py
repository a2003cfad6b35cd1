"""Runs requests after ``execute`` has returned, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from pipeline.errors import ServerError


class InOrder:
    """Runs the work of requests in a thread, one at a time, in order of arrival. Meanwhile
    ``execute`` takes other requests: progress that is forwarded does not wait for a decoder that
    runs for minutes.

    Triton never ends a request that a stub took and did not answer, so the server must be restarted
    when the stub dies (`cli.runtime.stubs`).
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: dict[Future[None], AbstractContextManager[Any]] = {}

    @property
    def idle(self) -> bool:
        """Whether all submitted work is done."""
        return not self._waiting

    def submit(self, request: AbstractContextManager[Any], work: Callable[[], None]) -> None:
        """Run ``work`` after all earlier work, within ``request``, whose exit ends the request with
        the error, if there is one.
        """

        def run() -> None:
            with request:
                work()

        future = self._thread.submit(run)
        self._waiting[future] = request
        future.add_done_callback(self._done)

    def close(self) -> None:
        """Fail what has not begun with ``ServerError``, and wait for the work that runs."""
        waiting = dict(self._waiting)
        self._thread.shutdown(wait=False, cancel_futures=True)
        for future, request in waiting.items():
            if future.cancelled():
                error = ServerError("the server is stopping")
                request.__exit__(type(error), error, None)
        self._thread.shutdown()

    def _done(self, future: Future[None]) -> None:
        del self._waiting[future]
