"""The large parts of a request, in temporary files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

IN_MEMORY = 64 << 10  # bytes of a file that stay in memory


@dataclass(frozen=True)
class Upload:
    """A file part. Its name and type are ignored: the client chose them."""

    file: BinaryIO = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> Upload:
        return cls(BytesIO(data))

    def read(self) -> bytes:
        """Return the content. Blocks while the disk is read."""
        self.file.seek(0)
        return self.file.read()


@dataclass(frozen=True)
class LongText:
    """A data URL too long for memory: ``size`` bytes of the file from ``start`` on."""

    file: BinaryIO = field(repr=False)
    size: int
    start: int = 0


class Spool:
    """A temporary file, written piece by piece and kept in memory while it is short."""

    def __init__(self) -> None:
        self.size = 0
        file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - its owner closes it
        self.file = cast(BinaryIO, file)

    async def write(self, data: bytes) -> None:
        if not data:
            return
        self.size += len(data)
        if self.size > IN_MEMORY:
            await asyncio.to_thread(self.file.write, data)
        else:
            self.file.write(data)

    def texts(self, starts: Mapping[str, int]) -> dict[str, LongText]:
        """Return the texts that follow each other in the file, by name; each has its ``starts``."""
        ends = [*starts.values(), self.size][1:]
        return {
            name: LongText(self.file, end - start, start)
            for (name, start), end in zip(starts.items(), ends, strict=True)
        }

    def close(self) -> None:
        self.file.close()
