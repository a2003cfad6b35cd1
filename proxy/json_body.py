"""Parses JSON within bounds: few values, little text, one long data URL."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from proxy.data_url import (
    JSON_ESCAPES,
    LONG_TEXT_BYTES,
    MAX_TEXT_BYTES,
    DataUrlPieces,
    is_data_url,
    too_much_text,
)
from proxy.errors import ApiError, invalid
from proxy.uploads import LongText

MAX_VALUES = 2000


class TooManyValuesError(ValueError):
    def __init__(self) -> None:
        super().__init__(f"it has too many values; up to {MAX_VALUES} are accepted")


def parse_json(text: str) -> Any:
    """Parse a short text. Raises ``ValueError``, and ``ApiError`` for a repeated name."""
    JsonPieces().feed(text.encode(errors="surrogatepass"))
    return _parse(text)


class JsonPieces:
    """Parses a body piece by piece.

    Data URLs longer than ``LONG_TEXT_BYTES`` are cut out: `feed` returns their new bytes, and the
    marks of ``urls`` replace them in the value.
    """

    def __init__(self) -> None:
        self.urls = DataUrlPieces(JSON_ESCAPES, b"\\")
        self._text = bytearray()
        self._held = b""  # a backslash at the end of a piece
        self._string: int | None = None  # offset at which the current string begins
        self._cutting = False
        self._values = 0

    def feed(self, piece: bytes) -> bytes:
        """Take a piece of the body; return new bytes of data URLs.

        Raises ``TooManyValuesError``, and ``ApiError`` 413 for too much text.
        """
        piece = self._held + piece
        end = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2
        piece, self._held = piece[:end], piece[end:]
        # Mask escapes by as many characters, so that positions stay the same.
        masked = piece.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        url, start = bytearray(), 0
        while (quote := masked.find(b'"', start)) >= 0:
            url += self._take(piece[start:quote], end=True)
            self._quote()
            start = quote + 1
        return bytes(url + self._take(piece[start:], end=False))

    def value(self) -> Any:
        """Parse the collected text. Raises ``ValueError``, and ``ApiError`` for a repeated name."""
        return _parse(bytes(self._text + self._held).decode("utf-8-sig"))

    def _take(self, text: bytes, *, end: bool) -> bytes:
        if self._cutting:
            return self.urls.feed(text, end=end)
        self._keep(text)
        if self._string is None:
            self._count(sum(map(text.count, (b",", b"[", b"{"))))
        elif not self.urls.full and len(self._text) - self._string > LONG_TEXT_BYTES:
            return self._cut_from(self._string, end=end)
        return b""

    def _cut_from(self, start: int, *, end: bool) -> bytes:
        if not is_data_url(self._text[start : start + 5]):
            return b""
        url = bytes(self._text[start:])
        self._text[start:] = self.urls.begin()
        self._cutting = True
        return self.urls.feed(url, end=end)

    def _quote(self) -> None:
        self._keep(b'"')
        self._cutting = False
        if self._string is None:
            self._string = len(self._text)
            self._count(1)
        else:
            self._string = None

    def _keep(self, text: bytes) -> None:
        # Whether a string is a long data URL shows only when it is long, so keep it until then.
        self._text += text
        if len(self._text) > MAX_TEXT_BYTES:
            raise too_much_text()

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise TooManyValuesError


def put_back(
    holder: dict[str, Any] | list[Any], key: Any, mark: str, url: LongText, depth: int = 4
) -> bool:
    """Replace ``mark`` in ``holder[key]``, up to ``depth`` levels down, by the data URL."""
    value = holder[key]
    if value == mark:
        holder[key] = url
        return True
    inner = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    return depth > 0 and any(put_back(value, key, mark, url, depth - 1) for key in inner)


def _parse(text: str) -> Any:
    try:
        # NaN and Infinity are not JSON, but Python's parser accepts them.
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_names_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise given_twice(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return value


def given_twice(name: str) -> ApiError:
    return invalid(name[:80], "This field is set twice.")
