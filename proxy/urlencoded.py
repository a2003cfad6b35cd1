"""Parses urlencoded forms within bounds, and cuts one long data URL out."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qsl, unquote_plus

from proxy.data_url import (
    FORM_ESCAPES,
    LONG_TEXT_BYTES,
    MAX_TEXT_BYTES,
    DataUrlPieces,
    is_data_url,
    too_much_text,
)
from proxy.field_names import LONG_TEXT_FIELDS
from proxy.multipart import MAX_FIELDS


class UrlencodedPieces:
    """Parses a form piece by piece.

    A data URL in one of ``LONG_TEXT_FIELDS`` longer than ``LONG_TEXT_BYTES`` is cut out: `feed`
    returns its new bytes, and ``mark`` replaces it among the fields.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._text = bytearray()
        self._field = 0  # offset at which the current field begins
        self._fields = 1
        self._url: DataUrlPieces | None = None
        self._cutting = False

    def feed(self, piece: bytes) -> bytes:
        """Take a piece of the form; return new bytes of the data URL.

        Raises ``ValueError`` for too many fields, ``ApiError`` 413 for too much text.
        """
        first, *others = piece.split(b"&", MAX_FIELDS)
        self._fields += len(others)
        if self._fields > MAX_FIELDS:
            raise ValueError("too many fields")
        url = self._take(first, end=bool(others))
        for number, part in enumerate(others, 1):
            self._text += b"&"
            self._field, self._cutting = len(self._text), False
            url += self._take(part, end=number < len(others))
        return url

    def fields(self) -> tuple[list[tuple[str, str]], bytes]:
        """Return all fields, and the end of the data URL. Raises ``ValueError`` if not UTF-8."""
        rest = self._url.feed(b"", end=True) if self._url and self._cutting else b""
        text = self._text.decode()
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        ), rest

    def _take(self, text: bytes, *, end: bool) -> bytes:
        if self._cutting and self._url:
            return self._url.feed(text, end=end)
        self._text += text
        if len(self._text) > MAX_TEXT_BYTES:
            raise too_much_text()
        if self._url is None and len(self._text) - self._field > LONG_TEXT_BYTES:
            return self._cut(end=end)
        return b""

    def _cut(self, *, end: bool) -> bytes:
        name, equals, start = bytes(self._text[self._field : self._field + 200]).partition(b"=")
        begins = unquote_plus(start.decode("latin-1")).encode("latin-1", "replace")
        if (
            not equals
            or unquote_plus(name.decode("latin-1")) not in LONG_TEXT_FIELDS
            or not is_data_url(begins)
        ):
            return b""
        begin = self._field + len(name) + 1
        url = bytes(self._text[begin:])
        self._text[begin:] = self.mark.encode()
        self._url, self._cutting = DataUrlPieces(FORM_ESCAPES, b"%"), True
        return self._url.feed(url, end=end)
