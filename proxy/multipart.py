"""Reads multipart forms: bounded text in memory, files and a long data URL on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, BinaryIO

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from proxy.data_url import LONG_TEXT_BYTES, MAX_TEXT_BYTES, is_data_url, too_much_text
from proxy.errors import invalid
from proxy.field_names import LONG_TEXT_FIELDS
from proxy.intake import HeldBody
from proxy.json_body import JsonPieces, put_back
from proxy.uploads import IN_MEMORY, LongText, Spool, Upload

MAX_FIELDS, MAX_FILES = 100, 4
MAX_NAME_CHARACTERS = 256


async def read_multipart(
    content_type: str, pieces: AsyncIterator[bytes], body: HeldBody
) -> list[tuple[str, Any]]:
    """Return the fields in order. Raises ``ApiError``, ``MultiPartException``, ``UnicodeError``."""
    # Latin-1 keeps bytes until they are decoded here. Starlette would fall back to Latin-1 for
    # invalid UTF-8, or use any codec of Python that the client names, some of which take time by
    # the square of the length.
    headers = Headers({"content-type": content_type + "; charset=latin-1"})

    async def whole() -> AsyncGenerator[bytes]:
        async for piece in pieces:
            yield piece
        if not parser.ended:
            # Raised in here, so that the parser closes its files.
            raise MultiPartException("It was cut off.")

    async with aclosing(whole()) as stream:
        parser = _Parser(
            headers,
            stream,
            max_files=MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_TEXT_BYTES,
        )
        form = await parser.parse()
    body.keep(_Files(form))
    return [(_utf8(name), await _value(name, value, body)) for name, value in form.multi_items()]


class _Parser(MultiPartParser):
    """Bounds the total size of all text, and records whether the form was complete."""

    spool_max_size = IN_MEMORY
    ended = False
    _text = 0

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if len(part.field_name) > MAX_NAME_CHARACTERS:
            raise invalid(
                part.field_name[:80], f"A field's name has up to {MAX_NAME_CHARACTERS} characters."
            )
        if part.file is None and part.field_name in LONG_TEXT_FIELDS:
            # Texts that may be long. A file part has a file name, at least an empty one.
            file = Spool().file
            self._files_to_close_on_error.append(file)  # pyright: ignore[reportArgumentType]
            part.file = UploadFile(file, size=0)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._text += end - start
            if self._text > MAX_TEXT_BYTES:
                raise too_much_text()
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self.ended = True


class _Files:
    """Closes the files of a form, without a thread: they are temporary."""

    def __init__(self, form: FormData):
        self._form = form

    def close(self) -> None:
        for _, value in self._form.multi_items():
            if isinstance(value, UploadFile):
                value.file.close()


async def _value(name: str, value: str | UploadFile, body: HeldBody) -> Any:
    if isinstance(value, str):
        return _utf8(value)
    if value.filename is not None:
        return Upload(value.file)
    size = value.size or 0
    start = await asyncio.to_thread(value.file.read, LONG_TEXT_BYTES)
    if size <= LONG_TEXT_BYTES:
        return start.decode()
    if start.lstrip()[:1] in (b"{", b"["):
        return await _long_json(name, start, value.file, body)
    if not is_data_url(start):
        raise too_much_text()
    return LongText(value.file, size)


async def _long_json(name: str, piece: bytes, file: BinaryIO, body: HeldBody) -> Any:
    """Parse the JSON text around a long data URL in the field ``name``. Raises ``ApiError``."""
    pieces, spool = JsonPieces(), body.keep(Spool())
    try:
        while piece:
            await spool.write(pieces.feed(piece))
            piece = await asyncio.to_thread(file.read, LONG_TEXT_BYTES)
        holder = [pieces.value()]
    except ValueError:
        raise invalid(name, f"{name}: not valid JSON, or too many values.") from None
    for mark, url in spool.texts(pieces.urls.starts).items():
        put_back(holder, 0, mark, url)
    return holder[0]


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode()
