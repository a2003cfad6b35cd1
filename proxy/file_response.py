"""A stored file as an HTTP response: whole, as one byte range, or unchanged."""

from __future__ import annotations

import re

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from proxy.errors import ApiError
from proxy.videos import Content

BYTE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def file_response(request: Request, file: Content) -> Response:
    """Answer with ``file``: status 200, 206 for a range, 304 for a matching ``If-None-Match``.

    Raises ``ApiError`` 416.
    """
    headers = {"etag": file.etag, "accept-ranges": "bytes", "cache-control": "private"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    start, end = _range(request.headers.get("range"), file.size)
    status = 200 if (start, end) == (0, file.size) else 206
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["content-length"] = str(end - start)
    headers["content-disposition"] = f'attachment; filename="{file.name}"'
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    return StreamingResponse(file.read(start, end), status, headers, file.media_type)


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last.

    A header that is not one plain range gets the whole file, as RFC 9110 allows.
    """
    match = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if not match or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise ApiError(
            416,
            f"The file has {size} bytes.",
            code="invalid_range",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end
