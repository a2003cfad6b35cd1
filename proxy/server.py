"""The HTTP server that the application runs in."""

from __future__ import annotations

import socket
from typing import cast

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Uvicorn, which at its end waits for open answers. Those that wait for a video are told not to."""

    def __init__(self, app: FastAPI, *, drain_s: int):
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=drain_s))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cast(FastAPI, self.config.app).state.updates.close()
        await super().shutdown(sockets)
