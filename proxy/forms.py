"""Forms, multipart and urlencoded: the fields in their order, as text in UTF-8 and files."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from proxy.errors import ApiError, invalid

MULTIPART, URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"
MAX_FIELDS, MAX_FILES = 100, 4


@dataclass(frozen=True)
class Upload:
    """What a file part held. Its name and type are the sender's words, and nobody's here."""

    data: bytes = field(repr=False)


Fields = list[tuple[str, str | Upload]]


async def read_form(request: Request, kind: str) -> Fields:
    """Raises ``ApiError`` 400."""
    try:
        return await (_multipart(request) if kind == MULTIPART else _urlencoded(request))
    except MultiPartException as error:
        raise _unreadable(error.message) from None
    except UnicodeError:
        raise _unreadable("It is not in UTF-8.") from None
    except ValueError:
        raise _unreadable(f"It should have up to {MAX_FIELDS} fields, name=value.") from None


async def _multipart(request: Request) -> Fields:
    # Text is decoded here, byte by byte until then: Starlette would take what is not UTF-8 for Latin-1, or decode it
    # by any codec of Python that the sender names, some of which take time by the square of the length.
    headers = Headers({"content-type": request.headers["content-type"] + "; charset=latin-1"})
    limit = request.app.state.settings.max_body_bytes

    async def whole() -> AsyncGenerator[bytes]:
        async for piece in request.stream():
            yield piece
        if not parser.ended:
            # Raised from in here it makes the parser close its files.
            raise MultiPartException("It was cut off.")

    async with aclosing(whole()) as stream:
        parser = _Parser(headers, stream, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=limit)
        form = await parser.parse()
    try:
        return [(_utf8(name), await _value(value)) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _urlencoded(request: Request) -> Fields:
    text = (await request.body()).decode()
    return [*parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)]


class _Parser(MultiPartParser):
    """Knows whether the form came to its end; without that, one that was cut off is a shorter one."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _value(value: str | UploadFile) -> str | Upload:
    return _utf8(value) if isinstance(value, str) else Upload(await value.read())


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode()


def _unreadable(why: str) -> ApiError:
    return invalid(None, f"The form cannot be read: {why}", "invalid_form")
