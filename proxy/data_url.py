"""Unescapes data URLs piece by piece: the only text of a body that may be long."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from proxy.errors import ApiError
from proxy.intake import body_too_large

MAX_TEXT_BYTES = 1 << 20  # of a body without its image
LONG_TEXT_BYTES = 64 << 10  # a longer data URL goes to a temporary file
MAX_DATA_URLS = 2  # a first and a last frame
# Escapes that encoders write: PHP for "/", .NET for "+", Gson for "=".
JSON_ESCAPES = {rb"\/": b"/"} | {
    rb"\u00%s" % code: character
    for character, codes in {
        b"+": (b"2b", b"2B"),
        b"/": (b"2f", b"2F"),
        b"=": (b"3d", b"3D"),
    }.items()
    for code in codes
}
# "+" encodes a space, which no data URL has. It comes first: "%2B" encodes a real plus.
FORM_ESCAPES = {b"+": b" "} | {
    b"%%%s" % code: bytes([character])
    for character in b"+/=:;,"
    for code in (b"%02x" % character, b"%02X" % character)
}


class DataUrlPieces:
    """Unescapes data URLs piece by piece, replacing ``escapes`` in their order.

    ``starts`` has the offset of each among all bytes that `feed` returned, by the mark that stands
    for it.
    """

    def __init__(self, escapes: Mapping[bytes, bytes], begin: bytes):
        self.starts: dict[str, int] = {}
        self._escapes = escapes
        self._begin = begin
        self._longest = max(map(len, escapes))
        self._held = b""  # an escape that continues in the next piece
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether there may be no further data URL."""
        return len(self.starts) == MAX_DATA_URLS

    def begin(self) -> bytes:
        """Begin another data URL, and return its mark."""
        mark = uuid.uuid4().hex
        self.starts[mark] = self._size
        return mark.encode()

    def feed(self, piece: bytes, *, end: bool = False) -> bytes:
        """Return the unescaped text. Invalid characters stay in it.

        `proxy.reference_images.reading` refuses them, and names the field, which is unknown here.
        """
        text = self._held + piece
        begin = -1 if end else text.rfind(self._begin, max(0, len(text) - self._longest + 1))
        self._held = b"" if begin < 0 else text[begin:]
        text = text[: len(text) - len(self._held)]
        for escape, character in self._escapes.items():
            text = text.replace(escape, character)
        self._size += len(text)
        return text


def is_data_url(start: bytes | bytearray) -> bool:
    return start[:5].lower() == b"data:"


def too_much_text() -> ApiError:
    return body_too_large(
        f"The body is too large; all of it but its files may have up to {MAX_TEXT_BYTES} bytes."
    )
