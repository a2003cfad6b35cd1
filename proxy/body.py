"""Reads a request's body into one dict, from JSON or from a form."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from proxy.errors import ApiError, invalid
from proxy.field_names import CONTAINERS, IMAGE_FIELDS
from proxy.intake import held_body, server_busy
from proxy.json_body import JsonPieces, TooManyValuesError, given_twice, put_back
from proxy.multipart import MAX_FIELDS, read_multipart
from proxy.uploads import LongText, Spool
from proxy.urlencoded import UrlencodedPieces

logger = logging.getLogger(__name__)

MULTIPART, URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"
PIECE_BYTES = 64 << 10  # the event loop does no more at a time

Fields = Sequence[tuple[str, Any]]


async def read_body(request: Request) -> dict[str, Any]:
    """Return the fields of the body.

    Raises ``ApiError``: 400 if it does not match its content type, 415 for another content type.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind in (MULTIPART, URLENCODED):
            return _nested(await _form(request, content_type, kind))
        if kind in ("application/json", ""):
            return await _json(request)
    except ClientDisconnect:
        raise invalid(None, "The body was cut off.", "invalid_form") from None
    except OSError as error:  # of the temporary files
        logger.warning("a request body cannot be stored: %s", error.strerror)
        raise server_busy("The server cannot store the body; try again soon.") from None
    raise ApiError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The content type {kind[:80]!r} is not understood; use application/json or"
        " multipart/form-data.",
        code="unsupported_content_type",
    )


async def _json(request: Request) -> dict[str, Any]:
    pieces, spool = JsonPieces(), held_body(request).keep(Spool())
    try:
        async for piece in _pieces(request):
            await spool.write(pieces.feed(piece))
        value = pieces.value()
    except TooManyValuesError as error:
        raise invalid(None, f"The body cannot be read: {error}.", "invalid_json") from None
    except ValueError:
        raise invalid(None, "The body is not valid JSON.", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, "The body should be a JSON object.", "invalid_type")
    for mark, url in spool.texts(pieces.urls.starts).items():
        _put_back(value, mark, url)
    return value


async def _form(request: Request, content_type: str, kind: str) -> Fields:
    try:
        if kind == MULTIPART:
            return await read_multipart(content_type, _pieces(request), held_body(request))
        return await _urlencoded(request)
    except MultiPartException as error:
        raise _unreadable(error.message) from None
    except UnicodeError:
        raise _unreadable("It is not in UTF-8.") from None
    except ValueError:
        raise _unreadable(f"It should have up to {MAX_FIELDS} fields, name=value.") from None


async def _urlencoded(request: Request) -> Fields:
    pieces, spool = UrlencodedPieces(), held_body(request).keep(Spool())
    async for piece in _pieces(request):
        await spool.write(pieces.feed(piece))
    # In a thread: a megabyte of escapes takes a tenth of a second.
    fields, rest = await asyncio.to_thread(pieces.fields)
    await spool.write(rest)
    urls = spool.texts(pieces.urls.starts)
    return [(name, urls.get(value, value)) for name, value in fields]


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        for start in range(0, len(piece), PIECE_BYTES):
            yield piece[start : start + PIECE_BYTES]


def _put_back(body: dict[str, Any], mark: str, url: LongText) -> None:
    """Put the data URL back where it was cut out. Raises ``ApiError`` 400 in any other field."""
    for holder in (body, *(body.get(name) for name in CONTAINERS)):
        for name in IMAGE_FIELDS:
            if isinstance(holder, dict) and name in holder and put_back(holder, name, mark, url):
                return
    name = next((name for name, value in body.items() if mark in str(value)), None)
    raise invalid(
        name and name[:80], f"This is too long; only {IMAGE_FIELDS[0]} may hold a long data URL."
    )


def _nested(fields: Fields) -> dict[str, Any]:
    """Nest the fields ``a[b]``, as the SDKs write them. A repeated name raises ``ApiError`` 400."""
    body: dict[str, Any] = {}
    for name, value in fields:
        match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]+)\])?", name)
        if not match:
            raise invalid(
                name[:80], "This field's name is not understood; write name or name[key]."
            )
        outer, inner = match.groups()
        holder: Any = body if inner is None else body.setdefault(outer, {})
        key = inner or outer
        if not isinstance(holder, dict) or key in holder:
            raise given_twice(outer)
        holder[key] = value
    return body


def _unreadable(why: str) -> ApiError:
    return invalid(None, f"The form cannot be read: {why}", "invalid_form")
