"""The application behind a real socket, to test disconnects and the end of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx

from cli.commands.serve import listening
from proxy.app import Application
from proxy.server import Server
from proxy.settings import HttpSettings


@dataclass
class Live:
    http: httpx.AsyncClient
    server: Server
    port: int
    running: asyncio.Task[None]

    def stop(self) -> None:
        """Stop the server as a signal does."""
        self.server.should_exit = True

    async def stopped(self) -> None:
        await asyncio.wait([self.running])


@asynccontextmanager
async def live(app: Application) -> AsyncIterator[Live]:
    """Serve an application whose lifespan is already running."""
    with listening("127.0.0.1", 0) as sock:
        server = Server(app, HttpSettings(), drain_s=20)
        server.config.lifespan = "off"
        port, running = sock.getsockname()[1], asyncio.create_task(server.serve([sock]))
        headers = {"authorization": "Bearer key-a"}
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20
            ) as http:
                yield Live(http, server, port, running)
        finally:
            server.should_exit = True
            await running


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield the data of each event of a stream."""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def head(method: str, url: str, **headers: object) -> bytes:
    """Return the head of a request with the key ``key-a``, up to its blank line."""
    lines = [f"{method} {url} HTTP/1.1", "host: x", "authorization: Bearer key-a"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()
