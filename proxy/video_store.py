"""Finished videos, previews and reference images in a local folder or a bucket."""

from __future__ import annotations

import re
import secrets
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, from_url

from pipeline.errors import ServerError
from pipeline.system.private import private_folder
from proxy.disk import DiskFullError, DiskReserve
from proxy.errors import storage_full

if TYPE_CHECKING:
    from obstore.store import RetryConfig

CHUNK_BYTES = 1 << 20
PROBE_BYTES = 4096  # a block: an empty file fits a full disk
FILE_SCHEME = "file://"
# A request should fail while its client still waits; all else about a bucket comes from the
# environment.
RETRY_CONFIG: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}


@dataclass(frozen=True)
class Variant:
    """One of the files that are kept of a video; its name is the video's and ``suffix``."""

    suffix: str
    media_type: str


VARIANTS: Mapping[str, Variant] = {
    "video": Variant(".mp4", "video/mp4"),
    "thumbnail": Variant(".thumbnail.webp", "image/webp"),
    "spritesheet": Variant(".spritesheet.webp", "image/webp"),
}


IMAGE_SUFFIX = ".picture"  # the names on disk, also the folder "pictures/", stay


class VideoStore:
    """The files of one attempt at a video lie under one key, which is used once, and so does each
    picture that a video begins from. Each file is there whole or not at all.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None):
        """``folder`` is where a local store is."""
        self._store = store
        self._folder = folder
        self._reserve: DiskReserve | None = None

    def share(self, reserve: DiskReserve | None) -> None:
        """Leave this reserve to the job database, if both are on one disk."""
        if reserve and self._folder and reserve.holds(self._folder):
            self._reserve = reserve

    @classmethod
    def open(cls, place: str | Path) -> VideoStore:
        """The store at a URL that the settings accept, or in a folder. Raises ``ServerError``."""
        try:
            if isinstance(place, Path):
                private_folder(place)
                return cls(LocalStore(place, automatic_cleanup=True), place)
            if place.startswith(FILE_SCHEME):
                return cls.open(Path(urllib.parse.unquote(place.removeprefix(FILE_SCHEME))))
            return cls(from_url(place, retry_config=RETRY_CONFIG))
        except (StoreError, OSError) as error:
            raise _unusable(error) from None

    def check(self) -> None:
        """Write a file and remove it. Raises ``ServerError`` when that cannot be done.

        Not asynchronous: a process that ends within moments of an asynchronous call of obstore is
        sometimes aborted.
        """
        key = f"check/{secrets.token_hex(8)}"
        try:
            obstore.put(self._store, key, b"")
            obstore.delete(self._store, key)
        except (StoreError, OSError) as error:
            raise _unusable(error) from None

    async def problem(self) -> str | None:
        """Why a local store takes no file, found out by writing one; None: it does, or is a
        bucket.
        """
        if self._folder is None:
            return None
        key = f"check/{secrets.token_hex(8)}"
        try:
            await obstore.put_async(self._store, key, bytes(PROBE_BYTES))
            await obstore.delete_async(self._store, key)
        except (StoreError, OSError):
            with suppress(StoreError, OSError):
                await obstore.delete_async(self._store, key)
            return "no file can be written to it"
        return None

    async def put(self, video_id: str, files: Mapping[str, bytes]) -> str:
        """Keep a file for each of `VARIANTS`, all or none; returns their key, which no other
        attempt at the same video has. Raises ``DiskFullError`` where they would take the space of
        the job database.
        """
        key = f"{video_id}/{secrets.token_hex(8)}"
        kept = False
        try:
            with self._space(sum(map(len, files.values()))):
                for variant in VARIANTS:
                    await obstore.put_async(self._store, _path(key, variant), files[variant])
            kept = True
        finally:
            if not kept:
                await self.delete(key)
        return key

    async def put_image(self, data: bytes) -> str:
        """Keep a reference image; returns its key.

        Raises ``ApiError`` 507 where it would take the space of the job database.
        """
        key = f"pictures/{secrets.token_hex(16)}"
        try:
            with self._space(len(data)):
                await obstore.put_async(self._store, key + IMAGE_SUFFIX, data)
        except DiskFullError:
            raise storage_full() from None
        return key

    async def image(self, key: str) -> bytes:
        """Raises ``FileNotFoundError``."""
        answer = await obstore.get_async(self._store, key + IMAGE_SUFFIX)
        return bytes(await answer.bytes_async())

    async def size_and_etag(self, key: str, variant: str) -> tuple[int, str]:
        """Raises ``FileNotFoundError``."""
        meta = await obstore.head_async(self._store, _path(key, variant))
        return meta["size"], f'"{_path(key, variant).rpartition("/")[2]}"'

    async def read(self, key: str, variant: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``end`` (not included), a piece at a time: memory does not grow
        with the file.
        """
        path = _path(key, variant)
        for begin in range(start, end, CHUNK_BYTES):
            piece = await obstore.get_range_async(
                self._store, path, start=begin, end=min(begin + CHUNK_BYTES, end)
            )
            yield bytes(piece)

    async def older_than(self, age_s: float) -> list[str]:
        """The keys of all files that were written longer ago."""
        limit = datetime.now(UTC) - timedelta(seconds=age_s)
        return sorted(
            {
                _key(meta["path"])
                async for batch in obstore.list(self._store)
                for meta in batch
                if meta["last_modified"] < limit
            }
        )

    async def delete(self, *keys: str | None) -> None:
        """Remove the files of the keys; does nothing for those that are gone already."""
        for key in keys:
            for suffix in (
                (IMAGE_SUFFIX, *(variant.suffix for variant in VARIANTS.values())) if key else ()
            ):
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, f"{key}{suffix}")

    def _space(self, size: int) -> AbstractContextManager[None]:
        return self._reserve.writing(size) if self._reserve else nullcontext()


def _path(key: str, variant: str) -> str:
    return key + VARIANTS[variant].suffix


def _key(path: str) -> str:
    # Neither the id of a video nor what follows it has a dot.
    return path.partition(".")[0]


def _unusable(error: Exception) -> ServerError:
    """In our own words: the store's hold addresses, and after a question mark sometimes a
    signature.
    """
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
        reason = "access is denied"
    elif isinstance(error, FileNotFoundError):
        reason = "there is no such bucket or folder"
    else:
        reason = re.sub(r"\?\S*", "", str(error).partition("\n")[0])
    return ServerError(f"the video store cannot be used: {reason}")
