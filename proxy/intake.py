"""Bounds request bodies: the size of each, their total size, and the time to receive one."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import RETRY_AFTER_S, ApiError


class Closable(Protocol):
    def close(self) -> None: ...


File = TypeVar("File", bound=Closable)


class HeldBody:
    """The resources of one request body: bytes counted in ``intake``, and temporary files."""

    def __init__(self, intake: Intake):
        self.size = 0
        self._intake = intake
        self._files: list[Closable] = []

    def take(self, size: int) -> None:
        """Count ``size`` more bytes. Raises ``ApiError`` 413 or 503 if there are too many."""
        self._intake.check(self.size + size, size)
        self._intake.held += size
        self.size += size

    def keep(self, file: File) -> File:
        """Return ``file``, which `release` will close."""
        self._files.append(file)
        return file

    def release(self) -> None:
        """Close the files and stop counting the bytes. May be called repeatedly."""
        self._intake.held -= self.size
        self.size = 0
        while self._files:
            self._files.pop().close()


class Intake:
    """ASGI middleware that refuses bodies that are too large, too slow, or too many at a time.

    It puts a `HeldBody` into the state of each request and releases it when the request ends.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_held_bytes: int, timeout_s: float):
        self.held = 0  # bytes of all unfinished requests
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_held_bytes = max(max_held_bytes, max_body_bytes)
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = HeldBody(self)
        scope.setdefault("state", {})["body"] = body
        try:
            await self._app(scope, self._bounded(scope, receive, body), send)
        finally:
            body.release()

    def check(self, body_size: int, more: int) -> None:
        """Check a body of ``body_size`` bytes, and ``more`` bytes in total.

        Raises ``ApiError``: 413 if the body is too large, 503 if the total is.
        """
        if body_size > self._max_body_bytes:
            raise body_too_large(
                f"The body is too large; up to {self._max_body_bytes} bytes are accepted."
            )
        if self.held + more > self._max_held_bytes:
            raise server_busy("The server is receiving too many large bodies; try again soon.")

    def _bounded(self, scope: Scope, receive: Receive, body: HeldBody) -> Receive:
        length = Headers(scope=scope).get("content-length", "")
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        ended = False

        async def bounded() -> Message:
            nonlocal ended
            if body.size == 0 and length.isascii() and length.isdigit():
                self.check(int(length[:20]), 0)
            message = await (receive() if ended else _until(deadline, receive))
            body.take(len(message.get("body", b"")))
            ended = ended or not message.get("more_body", False)
            return message

        return bounded


def held_body(request: Request) -> HeldBody:
    """Return the `HeldBody` of a request."""
    return request.state.body


def body_too_large(message: str) -> ApiError:
    status, headers = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"x-should-retry": "false"}
    return ApiError(status, message, code="body_too_large", headers=headers)


def server_busy(message: str) -> ApiError:
    headers = {"retry-after": RETRY_AFTER_S}
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code="server_busy", headers=headers)


async def _until(deadline: float, receive: Receive) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            return await receive()
    except TimeoutError:
        message = "The body did not arrive in time; send it faster, or send less."
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, message, code="request_timeout") from None
