"""The Triton that this process starts, as the HTTP server beside it sees it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from pipeline.families import ModelInfo
from proxy.pause import Pause


@dataclass(frozen=True)
class Place:
    """Where a Triton listens, or soon will: ``metrics`` is a unix socket; and its model."""

    grpc_url: str
    metrics: Path
    model: ModelInfo


class OwnTriton:
    """Tells the event loop how far the start of this process's Triton is.

    One thread sets ``stage``, then calls `announce` and `started`. ``pause`` holds jobs back while
    it restarts Triton.
    """

    def __init__(self) -> None:
        self.stage = "about to start"
        """What is being done, for people: without paths, since ``/readyz`` needs no key."""
        self.pause = Pause()
        self._place: Future[Place] = Future()
        self._started: Future[None] = Future()
        for future in (self._place, self._started):
            future.set_running_or_notify_cancel()  # a waiter that is cancelled does not cancel it

    @property
    def place(self) -> Place | None:
        """What was announced, if anything was."""
        return self._place.result() if self._place.done() else None

    @property
    def starting(self) -> bool:
        """Whether it has not started yet."""
        return not self._started.done()

    def announce(self, place: Place) -> None:
        """Accept requests for its model from now on; they wait until it has started."""
        self._place.set_result(place)

    def started(self) -> None:
        """Send it jobs from now on, once it is healthy."""
        self._started.set_result(None)

    async def announced(self) -> Place:
        """Wait for `announce`."""
        return await asyncio.wrap_future(self._place)

    async def start(self) -> None:
        """Wait for `started`."""
        await asyncio.wrap_future(self._started)
