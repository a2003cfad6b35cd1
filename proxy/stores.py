"""Opening the job database and the video store that the settings name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.errors import InputError
from proxy.files import VideoFiles
from proxy.jobs.database import Database, open_database, sqlite_url, with_password
from proxy.settings import WorkSettings


@asynccontextmanager
async def open_stores(settings: WorkSettings) -> AsyncIterator[tuple[Database, VideoFiles]]:
    """Both, ready for use. Raises ``InputError`` or ``ServerError`` with a sentence for who started the server."""
    if settings.database_url is None or settings.store_url is None:
        try:
            settings.data_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("data_path", f"cannot be used: {error.strerror}") from None
    files = VideoFiles.open(settings.store_url or settings.data_path / "videos")
    await asyncio.to_thread(files.check)
    database = await open_database(url_of(settings))
    try:
        yield database, files
    finally:
        await database.close()


def url_of(settings: WorkSettings) -> str:
    """The job database's URL, with the password of the file. Raises ``InputError``."""
    url = settings.database_url or sqlite_url(settings.data_path / "jobs.sqlite")
    if settings.database_password_file is None:
        return url
    field = "database_password_file"
    if url.startswith("sqlite:"):
        raise InputError(field, "is for --database-url postgresql://...; SQLite has no password")
    try:
        password = settings.database_password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, f"cannot be read: {error}") from None
    if not password:
        raise InputError(field, f"{settings.database_password_file} holds no password")
    return with_password(url, password)


async def check_stores(settings: WorkSettings) -> None:
    """Raises what `open_stores` does: before a Triton is started that nobody could use."""
    async with open_stores(settings):
        pass
