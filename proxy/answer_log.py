"""Around every request: its id, how long it took, one line in the log, one sample for the metrics."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

UNKNOWN_ROUTE = "unknown"


class AnswerLog:
    """ASGI middleware; a response passes through it piece by piece.

    A line and a sample hold the route's pattern, never the path that was asked for: it may hold anything.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, request_id = time.perf_counter(), f"req_{uuid.uuid4().hex}"

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - begin
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round(seconds * 1000))
                _note(scope, request_id, message["status"], seconds)
            await send(message)

        await self._app(scope, receive, noted)


def _note(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
    scope["app"].state.service.metrics.answered(scope["method"], route, status, seconds)
    logger.info("%s %s %d in %.0f ms (%s)", scope["method"], route, status, seconds * 1000, request_id)
