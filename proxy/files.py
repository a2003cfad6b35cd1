"""Finished videos in an object store: a local folder by default."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
from obstore.store import LocalStore, ObjectStore

CHUNK_BYTES = 1 << 20


class VideoFiles:
    """Files by key. A file is there whole or not at all; a key is used once."""

    def __init__(self, store: ObjectStore):
        self._store = store

    @classmethod
    def local(cls, folder: Path) -> VideoFiles:
        return cls(LocalStore(folder, mkdir=True))

    async def put(self, video_id: str, mp4: bytes) -> str:
        """Keep the file; returns its key, which no other attempt at the same video has."""
        key = f"{video_id}/{secrets.token_hex(8)}.mp4"
        await obstore.put_async(self._store, key, mp4)
        return key

    async def size_and_etag(self, key: str) -> tuple[int, str]:
        """Raises ``FileNotFoundError``."""
        meta = await obstore.head_async(self._store, key)
        return meta["size"], f'"{key.rpartition("/")[2].removesuffix(".mp4")}"'

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``end`` (not included), a piece at a time: memory does not grow with the file."""
        for begin in range(start, end, CHUNK_BYTES):
            piece = await obstore.get_range_async(self._store, key, start=begin, end=min(begin + CHUNK_BYTES, end))
            yield bytes(piece)

    async def older_than(self, age_s: float) -> list[str]:
        """The keys of all files that were written longer ago."""
        limit = datetime.now(UTC) - timedelta(seconds=age_s)
        return [
            meta["path"] async for batch in obstore.list(self._store) for meta in batch if meta["last_modified"] < limit
        ]

    async def delete(self, key: str | None) -> None:
        """Does nothing for a file that is gone already."""
        if key:
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)
