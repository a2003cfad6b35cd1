"""A request's body as one dict, whether it came as JSON or as a form: the rest of the proxy sees no difference."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import ApiError, invalid

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
MAX_FIELDS, MAX_FILES = 100, 4
# Not whatever Python can decode: some of its codecs take time that grows with the square of the length.
CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")


@dataclass(frozen=True)
class Upload:
    """What a file part held. Its name and type are the sender's words, and nobody's here."""

    data: bytes = field(repr=False)


async def read_body(request: Request) -> dict[str, Any]:
    """Raises ``ApiError``: 400 for a body that is not what its content type says, 415 for another content type."""
    try:
        return await _read(request)
    except ClientDisconnect:
        raise invalid(None, "The body ended before its end.", "invalid_form") from None


async def _read(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        return await _form(request)
    if kind in ("application/json", ""):
        return _json(await request.body())
    raise _unsupported(f"The content type {kind[:80]!r} is not understood; use application/json or a form.")


def _json(body: bytes) -> dict[str, Any]:
    try:
        # NaN and Infinity are no JSON, but Python's parser lets them in.
        value = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise invalid(None, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "The body should be a JSON object.", "invalid_type")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _twice(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return value


async def _form(request: Request) -> dict[str, Any]:
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", CHARSETS[0]).lower() not in CHARSETS:
        raise _unsupported("The form's charset is not understood; use utf-8.")
    limit = request.app.state.settings.max_body_bytes
    body: dict[str, Any] = {}
    try:
        async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=limit) as form:
            for name, value in form.multi_items():
                _put(body, name, Upload(await value.read()) if isinstance(value, UploadFile) else value)
    except HTTPException as error:
        raise invalid(None, f"The form cannot be read: {error.detail}", "invalid_form") from None
    return body


def _put(body: dict[str, Any], name: str, value: Any) -> None:
    """``a`` and ``a[b]`` as the SDKs write nested values. A name that comes twice is an error, not a choice."""
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]+)\])?", name)
    if not match:
        raise invalid(name[:80], "This field's name is not understood; write name or name[key].")
    outer, inner = match.groups()
    holder: Any = body if inner is None else body.setdefault(outer, {})
    key = inner or outer
    if not isinstance(holder, dict) or key in holder:
        raise _twice(outer)
    holder[key] = value


def _twice(name: str) -> ApiError:
    return invalid(name[:80], "This field was given twice.")


def _unsupported(message: str) -> ApiError:
    return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, code="unsupported_content_type")


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
