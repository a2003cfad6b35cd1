"""Opens the job database and the video store that the settings name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pipeline.errors import InputError
from pipeline.system.private import private_folder, tighten
from proxy.jobs.database import Database, open_database, sqlite_url, with_password
from proxy.links import LINK_KEY_FILE
from proxy.settings import WorkSettings
from proxy.video_store import VideoStore

logger = logging.getLogger(__name__)

DATABASE_FILE, VIDEOS_FOLDER = "jobs.sqlite", "videos"
OWN_FILES = (DATABASE_FILE, LINK_KEY_FILE)
WRITABLE_BY_OTHERS = 0o022


@asynccontextmanager
async def open_storage(settings: WorkSettings) -> AsyncIterator[tuple[Database, VideoStore]]:
    """Open database and store for the duration of the block.

    Raises ``InputError`` or ``ServerError`` with a sentence for the operator.
    """
    if settings.database_url is None or settings.store_url is None:
        try:
            _make_data_folder(settings.data_path)
            if settings.store_url is None and not private_folder(
                settings.data_path / VIDEOS_FOLDER
            ):
                tighten(settings.data_path / VIDEOS_FOLDER)
        except OSError as error:
            raise InputError("data_path", f"cannot be used: {error.strerror}") from None
    store = VideoStore.open(settings.store_url or settings.data_path / VIDEOS_FOLDER)
    # The database first: on a full disk it releases its reserve, for the check of the store.
    database = await open_database(url_of(settings), settings.disk_reserve_bytes)
    try:
        await asyncio.to_thread(store.check)
        store.share(database.reserve)
        yield database, store
    finally:
        await database.close()


def _make_data_folder(folder: Path) -> None:
    """Create the folder, or make a folder of an earlier version private. Raises ``OSError``.

    A folder with other files keeps its mode: it may be shared, such as /tmp.
    """
    if private_folder(folder):
        return
    names = {path.name for path in folder.iterdir()}
    if names and all(name == VIDEOS_FOLDER or name.startswith(OWN_FILES) for name in names):
        tighten(folder)
    if folder.stat().st_mode & WRITABLE_BY_OTHERS:
        logger.warning("data_path: other users may write to %s; chmod 700 it", folder)


def url_of(settings: WorkSettings) -> str:
    """Return the URL of the database, with the password of the file. Raises ``InputError``."""
    url = settings.database_url or sqlite_url(settings.data_path / DATABASE_FILE)
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


async def check_storage(settings: WorkSettings) -> None:
    """Raise what `open_storage` would raise, before a Triton is started in vain."""
    async with open_storage(settings):
        pass
