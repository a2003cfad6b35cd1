"""Gives each request an id and a span, logs it, and measures its time for the metrics."""

from __future__ import annotations

import logging
import time
import uuid

from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.context import Context
from proxy.tracing import TRACEPARENT, span

logger = logging.getLogger(__name__)

UNKNOWN_ROUTE = "unknown"
# A client may invent methods, and a count for each would stay in memory.
KNOWN_METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
OTHER_METHOD = "other"


class AccessLog:
    """ASGI middleware that logs and measures requests; responses stream through it.

    Log lines and metrics hold the route's pattern and a known method, never the path and method
    that the client chose.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, request_id = time.perf_counter(), f"req_{uuid.uuid4().hex}"
        parent = {TRACEPARENT: Headers(scope=scope).get(TRACEPARENT, "")}
        with span(_method(scope), parent, SpanKind.SERVER) as current:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seconds, headers = time.perf_counter() - begin, MutableHeaders(scope=message)
                    headers["x-request-id"] = request_id
                    headers["openai-processing-ms"] = str(round(seconds * 1000))
                    _note(scope, request_id, message["status"], seconds, current)
                await send(message)

            await self._app(scope, receive, noted)


def _note(scope: Scope, request_id: str, status: int, seconds: float, current: Span) -> None:
    method, route = _method(scope), getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
    context: Context = scope["app"].context
    context.service.metrics.answered(method, route, status, seconds)
    logger.info("%s %s %d in %.0f ms (%s)", method, route, status, seconds * 1000, request_id)
    current.update_name(f"{method} {route}")
    current.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    )


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in KNOWN_METHODS else OTHER_METHOD
