"""The job database: SQLite in a file by default, or PostgreSQL by URL; the same tables and statements on both."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeftError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipeline.errors import InputError, ServerError
from proxy.errors import DatabaseUnavailableError

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
BUSY_TIMEOUT_MS = 10_000
SYNCHRONOUS = "FULL"  # a job that was answered for outlives a power cut
POSTGRESQL: dict[str, Any] = {
    # A connection is tried before it is used: one from before a restart of the server is replaced unnoticed.
    "pool_pre_ping": True,
    "pool_size": 5,
    "max_overflow": 10,
    "pool_timeout": 10,
    "connect_args": {"timeout": 5, "command_timeout": 30, "server_settings": {"application_name": "triton-video"}},
}
# One writer at a time, from here to the end of the transaction. The number is any that no other program takes.
LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7478656)"}
OUR_FAULTS = (ProgrammingError, IntegrityError, DataError)


class Database:
    """Transactions on the tables. Raises ``DatabaseUnavailableError`` whenever the server does not do its part."""

    def __init__(self, engine: AsyncEngine):
        self.outages = 0  # how often it did not answer
        self._engine = engine
        self._answered: bool | None = None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, which an exception rolls back."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, NoConnectionLeftError, OSError) as error:
            if isinstance(error, OUR_FAULTS):
                raise
            self._note(error)
            raise DatabaseUnavailableError from error
        self._note(None)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that waits until no other one of this kind runs, in any process, and sees all they did."""
        async with self.begin() as connection:
            await connection.exec_driver_sql(LOCK[self._engine.dialect.name])
            yield connection

    async def close(self) -> None:
        await self._engine.dispose()

    def _note(self, error: Exception | None) -> None:
        """One line when an outage begins and one when it is over; not the error's text, which may hold a path."""
        if error:
            self.outages += 1
        if error and self._answered:
            logger.warning("the job database does not answer: %s", type(error).__name__)
        elif self._answered is False and not error:
            logger.warning("the job database answers again")
        self._answered = error is None


async def open_database(url: str) -> Database:
    """The database with the schema of this version.

    Raises ``InputError`` for a URL that cannot be read, ``ServerError`` when the database cannot be used.
    """
    database = Database(_engine(_driver_url(url)))
    try:
        async with database.exclusive() as connection:
            await connection.run_sync(_upgrade)
    except (DatabaseUnavailableError, SQLAlchemyError) as error:
        await database.close()
        raise ServerError(f"the job database cannot be used: {_reason(error.__cause__ or error)}") from None
    except ServerError:
        await database.close()
        raise
    return database


def sqlite_url(path: Path) -> str:
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def with_password(text: str, password: str) -> str:
    """The URL with ``password``, whatever characters that has. Raises ``InputError`` for one that cannot be read."""
    return _read(text).set(password=password).render_as_string(hide_password=False)


def _driver_url(text: str) -> URL:
    url = _read(text)
    url = url.set(drivername=DRIVERS[url.drivername])
    # As every other client of PostgreSQL spells it; the driver's own name is ssl, with the same values.
    mode = url.query.get("sslmode")
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode}) if mode else url


def _read(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # Not the URL itself: it may hold a password.
        raise InputError(
            "database_url", "cannot be read; special characters of a password are written as %40 and the like"
        ) from None


def _engine(url: URL) -> AsyncEngine:
    postgresql = url.get_backend_name() == "postgresql"
    if not postgresql:
        _try_file(str(url.database))
    # Without the hiding, errors and so logs would quote prompts.
    engine = create_async_engine(url, hide_parameters=True, **(POSTGRESQL if postgresql else {}))
    if not postgresql:
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def _try_file(path: str) -> None:
    # Before aiosqlite does: after a file that cannot be opened, its thread sometimes outlives the event loop.
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise ServerError(f"the job database cannot be used: {error}") from None


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # A writer waits for another one instead of failing, and readers do not wait for the writer.
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
    cursor.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise ServerError("the job database was written by a newer version of triton-video; use that version")
    command.upgrade(config, "head")


def _reason(error: BaseException) -> str:
    if isinstance(error, DBAPIError):
        return str(error.orig)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
