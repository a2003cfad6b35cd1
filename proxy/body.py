"""A request's body as one dict, whether it came as JSON or as a form: the rest of the proxy sees no difference."""

from __future__ import annotations

import json
import re
from collections import Counter
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import ApiError, invalid
from proxy.forms import MULTIPART, URLENCODED, Fields, read_form


async def read_body(request: Request) -> dict[str, Any]:
    """Raises ``ApiError``: 400 for a body that is not what its content type says, 415 for another content type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind in (MULTIPART, URLENCODED):
            return _nested(await read_form(request, kind))
        if kind in ("application/json", ""):
            return _object(await request.body())
    except ClientDisconnect:
        raise invalid(None, "The body was cut off.", "invalid_form") from None
    raise ApiError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The content type {kind[:80]!r} is not understood; use application/json or multipart/form-data.",
        code="unsupported_content_type",
    )


def parse_json(text: str | bytes) -> Any:
    """JSON to the letter. Raises ``ValueError``, and ``ApiError`` 400 for a name that comes twice in an object."""
    try:
        # NaN and Infinity are no JSON, but Python's parser lets them in.
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_names_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = parse_json(body)
    except ValueError:
        raise invalid(None, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "The body should be a JSON object.", "invalid_type")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _twice(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return value


def _nested(fields: Fields) -> dict[str, Any]:
    """``a`` and ``a[b]`` as the SDKs write nested values. A name that comes twice is an error, not a choice."""
    body: dict[str, Any] = {}
    for name, value in fields:
        match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]+)\])?", name)
        if not match:
            raise invalid(name[:80], "This field's name is not understood; write name or name[key].")
        outer, inner = match.groups()
        holder: Any = body if inner is None else body.setdefault(outer, {})
        key = inner or outer
        if not isinstance(holder, dict) or key in holder:
            raise _twice(outer)
        holder[key] = value
    return body


def _twice(name: str) -> ApiError:
    return invalid(name[:80], "This field was given twice.")


class BodyLimit:
    """ASGI middleware: a body longer than ``max_bytes`` ends in 413, before it is all read."""

    def __init__(self, app: ASGIApp, max_bytes: int):
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise ApiError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The body is too large; up to {self._max_bytes} bytes are taken.",
                    code="body_too_large",
                    headers={"x-should-retry": "false"},
                )
            return message

        await self._app(scope, counted, send)
