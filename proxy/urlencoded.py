"""Parses urlencoded forms within bounds, and cuts one long data URL out."""

from __future__ import annotations

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

    Data URLs in ``LONG_TEXT_FIELDS`` longer than ``LONG_TEXT_BYTES`` are cut out: `feed` returns
    their new bytes, and the marks of ``urls`` replace them among the fields.
    """

    def __init__(self) -> None:
        self.urls = DataUrlPieces(FORM_ESCAPES, b"%")
        self._text = bytearray()
        self._field = 0  # offset at which the current field begins
        self._fields = 1
        self._cutting = False

    def feed(self, piece: bytes) -> bytes:
        """Take a piece of the form; return new bytes of data URLs.

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
        """Return all fields, and the end of the last data URL.

        Raises ``ValueError`` if they are not UTF-8.
        """
        rest = self.urls.feed(b"", end=True) if self._cutting else b""
        text = self._text.decode()
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        ), rest

    def _take(self, text: bytes, *, end: bool) -> bytes:
        if self._cutting:
            return self.urls.feed(text, end=end)
        self._text += text
        if len(self._text) > MAX_TEXT_BYTES:
            raise too_much_text()
        if not self.urls.full and len(self._text) - self._field > LONG_TEXT_BYTES:
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
        self._text[begin:] = self.urls.begin()
        self._cutting = True
        return self.urls.feed(url, end=end)
