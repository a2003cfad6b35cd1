"""The HTTP server: Uvicorn with bounds on connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn

from proxy.app import Application
from proxy.connections import Gate, RepeatedWarning
from proxy.descriptors import connections_that_fit
from proxy.protocol import BoundedProtocol, ConnectionTimeouts
from proxy.settings import HttpSettings

BACKLOG = 512  # connections that the kernel holds until they are accepted
# Connections that asyncio accepts in a row. When descriptors run out, it fails as many times in a
# row, and logs each failure.
ACCEPTED_AT_ONCE = 8
NO_DESCRIPTORS = "socket.accept() out of system resource"  # asyncio's message


class Server(uvicorn.Server):
    """Uvicorn with bounds on connections. Its shutdown ends responses that wait for a video."""

    def __init__(self, app: Application, settings: HttpSettings, *, drain_s: int):
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=drain_s,
                timeout_keep_alive=settings.keep_alive_s,
                backlog=ACCEPTED_AT_ONCE,
                # h11 bounds the size of a head. httptools, which Uvicorn prefers, does not.
                http=BoundedProtocol,
                ws="none",
            )
        )
        self._app = app
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_without_repeats())
        settings, limit = self._settings, connections_that_fit(self._settings.max_connections)
        # One client cannot take the last quarter.
        gate = Gate(limit, min(settings.max_connections_per_client, limit - limit // 4))
        timeouts = ConnectionTimeouts(settings.head_timeout_s, settings.send_timeout_s)
        protocol = partial(BoundedProtocol, gate=gate, timeouts=timeouts)
        self.config.http_protocol_class = cast(type[asyncio.Protocol], protocol)
        await super().startup(sockets)
        if self.should_exit:
            return
        streams = self._app.context.streams
        streams.limit = min(streams.limit, max(1, limit // 2))
        for sock in sockets or ():
            sock.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.context.service.updates.close()
        await super().shutdown(sockets)


def _without_repeats() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler of loop errors that logs a lack of descriptors once a minute."""
    no_descriptors = RepeatedWarning(
        "connections could not be accepted: too many files are open (ulimit -n)"
    )

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == NO_DESCRIPTORS:
            no_descriptors.warn()
        else:
            loop.default_exception_handler(context)

    return handle
