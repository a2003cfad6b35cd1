"""Finished videos, their previews, and the files of requests in a local folder or a bucket."""

from __future__ import annotations

import re
import secrets
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from pipeline.errors import ServerError
from pipeline.system.private import private_folder
from proxy.disk import DiskFullError, DiskReserve
from proxy.errors import storage_full

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import RetryConfig

CHUNK_BYTES = 1 << 20
PRESIGNED_S = 900  # for the redirect, and for seeking in a video that plays
PROBE_BYTES = 4096  # a block; an empty file fits on a full disk
FILE_SCHEME = "file://"
# Fail while the client still waits. Other options of a bucket come from the environment.
RETRY_CONFIG: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}


@dataclass(frozen=True)
class Variant:
    """One of the files of a video; ``suffix`` ends its name."""

    suffix: str
    media_type: str


VARIANTS: Mapping[str, Variant] = {
    "video": Variant(".mp4", "video/mp4"),
    "thumbnail": Variant(".thumbnail.webp", "image/webp"),
    "spritesheet": Variant(".spritesheet.webp", "image/webp"),
    # The frame of an image, in the format that the request asked for.
    "png": Variant(".png", "image/png"),
    "webp": Variant(".webp", "image/webp"),
    "jpeg": Variant(".jpeg", "image/jpeg"),
}
INPUT_SUFFIX = ".picture"  # the names on disk, also the folder "pictures/", stay


class VideoStore:
    """Stores the files of each attempt, and each file of a request, under a key that is used once.

    A file is either complete or absent.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None):
        """Use ``store``; ``folder`` is the path of a local one."""
        self._store = store
        self._folder = folder
        self._reserve: DiskReserve | None = None

    def share(self, reserve: DiskReserve | None) -> None:
        """Respect the reserve of the job database if both are on the same disk."""
        if reserve and self._folder and reserve.holds(self._folder):
            self._reserve = reserve

    @classmethod
    def open(cls, place: str | Path) -> VideoStore:
        """Open the store at a URL or in a folder. Raises ``ServerError``."""
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
        """Write a file and remove it. Raises ``ServerError`` if that fails.

        Synchronous: a process that ends right after an asynchronous call of obstore is sometimes
        aborted.
        """
        key = f"check/{secrets.token_hex(8)}"
        try:
            obstore.put(self._store, key, b"")
            obstore.delete(self._store, key)
        except (StoreError, OSError) as error:
            raise _unusable(error) from None

    async def problem(self) -> str | None:
        """Write a probe file to a local store; return why that fails, or None.

        A bucket is not probed.
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
        """Store ``files``, by their variants, all or none, and return their new key.

        Raises ``DiskFullError`` if they would use the reserve of the job database.
        """
        key = f"{video_id}/{secrets.token_hex(8)}"
        kept = False
        try:
            with self._space(sum(map(len, files.values()))):
                for variant, data in files.items():
                    await self._put(_path(key, variant), data, VARIANTS[variant].media_type)
            kept = True
        finally:
            if not kept:
                await self.delete(key)
        return key

    async def _put(self, path: str, data: bytes, media_type: str) -> None:
        # A local store has no attributes.
        kind: Attributes | None = {"Content-Type": media_type} if self._folder is None else None
        await obstore.put_async(self._store, path, data, attributes=kind)

    async def put_input(self, data: bytes | AsyncIterator[bytes], size: int) -> str:
        """Store a file of a request, ``size`` bytes, and return its key.

        Raises ``ApiError`` 507 if it would use the reserve of the job database.
        """
        key = f"pictures/{secrets.token_hex(16)}"
        try:
            with self._space(size):
                await obstore.put_async(self._store, key + INPUT_SUFFIX, data)
        except DiskFullError:
            raise storage_full() from None
        return key

    async def input(self, key: str) -> bytes:
        """Return a file of a request. Raises ``FileNotFoundError``."""
        return b"".join([piece async for piece in self.input_pieces(key)])

    async def input_pieces(self, key: str) -> AsyncIterator[bytes]:
        """Yield a file of a request. Raises ``FileNotFoundError``."""
        answer = await obstore.get_async(self._store, key + INPUT_SUFFIX)
        async for piece in answer.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)

    async def size_and_etag(self, key: str, variant: str) -> tuple[int, str]:
        """Return the size in bytes and the ETag of a file. Raises ``FileNotFoundError``."""
        meta = await obstore.head_async(self._store, _path(key, variant))
        return meta["size"], f'"{_path(key, variant).rpartition("/")[2]}"'

    async def read(self, key: str, variant: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` to ``end`` (excluded) in pieces of ``CHUNK_BYTES``."""
        path = _path(key, variant)
        for begin in range(start, end, CHUNK_BYTES):
            piece = await obstore.get_range_async(
                self._store, path, start=begin, end=min(begin + CHUNK_BYTES, end)
            )
            yield bytes(piece)

    async def all_of(self, key: str, variant: str) -> AsyncIterator[bytes]:
        """Yield a file in pieces. Raises ``FileNotFoundError``."""
        size, _ = await self.size_and_etag(key, variant)
        async for piece in self.read(key, variant, 0, size):
            yield piece

    async def presigned(self, key: str, variant: str, method: Literal["GET", "HEAD"]) -> str | None:
        """Return a URL of a file in the bucket for anyone, for a while; None for a folder."""
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        return await obstore.sign_async(
            self._store, method, _path(key, variant), timedelta(seconds=PRESIGNED_S)
        )

    async def older_than(self, age_s: float) -> list[str]:
        """Return the keys of all files written more than ``age_s`` seconds ago."""
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
        """Remove the files of the keys; missing files are ignored."""
        for key in keys:
            for suffix in (
                (INPUT_SUFFIX, *(variant.suffix for variant in VARIANTS.values())) if key else ()
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
    """Return an error without the addresses and signatures that messages of a store may hold."""
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
        reason = "access is denied"
    elif isinstance(error, FileNotFoundError):
        reason = "there is no such bucket or folder"
    else:
        reason = re.sub(r"\?\S*", "", str(error).partition("\n")[0])
    return ServerError(f"the video store cannot be used: {reason}")
