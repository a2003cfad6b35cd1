"""The job database, SQLite or PostgreSQL, with the same tables and statements on both."""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Select, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionLeftError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipeline.errors import InputError, ServerError
from proxy.disk import DiskReserve
from proxy.errors import DatabaseUnavailableError
from proxy.jobs.sqlite_file import SqliteFile, make_private

logger = logging.getLogger(__name__)

MIGRATIONS_FOLDER = Path(__file__).resolve().parent.parent / "migrations"
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
BUSY_TIMEOUT_MS = 10_000
SYNCHRONOUS = "FULL"  # an accepted job survives a power failure
# Otherwise errors, and so logs, would quote prompts.
COMMON_OPTIONS: dict[str, Any] = {"hide_parameters": True}
POSTGRESQL_OPTIONS: dict[str, Any] = {
    **COMMON_OPTIONS,
    # Tests a connection before use, and so replaces one from before a restart of the server.
    "pool_pre_ping": True,
    "pool_size": 5,
    "max_overflow": 10,
    "pool_timeout": 10,
    "connect_args": {
        "timeout": 5,
        "command_timeout": 30,
        "server_settings": {"application_name": "triton-video"},
    },
}
# For reads by key. Tests no connection before use: a read that fails is repeated in a transaction.
LOOKUP_OPTIONS: dict[str, Any] = {
    **POSTGRESQL_OPTIONS,
    "isolation_level": "AUTOCOMMIT",
    "pool_pre_ping": False,
    "pool_size": 2,
    "max_overflow": 0,
    "pool_timeout": 5,
    "connect_args": {**POSTGRESQL_OPTIONS["connect_args"], "command_timeout": 5},
}
# One writer at a time, until the end of the transaction. The number is arbitrary but ours.
EXCLUSIVE_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7478656)",
}
NO_ANSWER_ERRORS = (DBAPIError, NoConnectionLeftError, OSError)
PROGRAM_ERRORS = (ProgrammingError, IntegrityError, DataError)


# SQLite's errors in words for the operator, without paths: /readyz needs no key.
DISK_FULL, FILE_DAMAGED = (
    "its disk is full",
    "its file is damaged; restore it, then restart the server",
)
NO_ANSWER = "it does not answer"
SQLITE_REASONS = {
    "SQLITE_FULL": DISK_FULL,
    "SQLITE_IOERR_WRITE": DISK_FULL,  # a quota: only ENOSPC is SQLITE_FULL
    "SQLITE_IOERR_SHMSIZE": DISK_FULL,
    "SQLITE_CORRUPT": FILE_DAMAGED,
    "SQLITE_NOTADB": FILE_DAMAGED,
    "SQLITE_READONLY": "it cannot be written to",
    "SQLITE_BUSY": "another program keeps it locked",
}


class Database:
    """Transactions on the tables; they raise ``DatabaseUnavailableError`` during an outage."""

    def __init__(
        self,
        engine: AsyncEngine,
        reserve: DiskReserve | None = None,
        lookups: AsyncEngine | None = None,
    ):
        """``reserve`` belongs to the disk of an SQLite database, ``lookups`` to PostgreSQL."""
        self.outages = 0  # number of failed transactions
        self.problem: str | None = None  # of the last transaction; None: it succeeded
        self.reserve = reserve
        self._engine = engine
        self._lookups = lookups
        self._file: SqliteFile | None = None
        self._answered: bool | None = None

    def watch(self, file: SqliteFile) -> None:
        """Refuse transactions, and their commits, while ``file`` is not the original database."""
        self._file = file

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction, which an exception rolls back."""
        self._require_file()
        if self.reserve:
            self.reserve.guard()
        try:
            async with self._engine.begin() as connection:
                yield connection
        except NO_ANSWER_ERRORS as error:
            if isinstance(error, PROGRAM_ERRORS):
                raise
            self._note(self._reason_of(error))
            raise DatabaseUnavailableError from error
        self._require_file()
        self._note(None)

    async def first(
        self, query: Select[Any], values: Mapping[str, Any]
    ) -> Mapping[Any, Any] | None:
        """Return the first row of a query by a unique key, or None.

        Takes a fraction of the CPU of a transaction. SQLite answers in this thread, in
        microseconds; PostgreSQL answers in one round trip instead of four.
        """
        self._require_file()
        with suppress(sqlite3.Error, *NO_ANSWER_ERRORS):  # the transaction below reports why
            row = await self._look_up(query, values)
            self._require_file()
            self._note(None)
            return row
        async with self.begin() as connection:
            return (await connection.execute(query, values)).mappings().first()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[AsyncConnection]:
        """Run a transaction alone: no other exclusive one runs meanwhile, in any process."""
        async with self.begin() as connection:
            await connection.exec_driver_sql(EXCLUSIVE_LOCK[self._engine.dialect.name])
            yield connection

    async def close(self) -> None:
        for engine in (self._engine, self._lookups):
            if engine:
                await engine.dispose()
        if self._file:
            self._file.close()

    async def _look_up(
        self, query: Select[Any], values: Mapping[str, Any]
    ) -> Mapping[Any, Any] | None:
        if self._file:
            return self._file.first(query, values)
        async with (self._lookups or self._engine).connect() as connection:
            return (await connection.execute(query, values)).mappings().first()

    def _require_file(self) -> None:
        if self._file and (problem := self._file.problem()):
            self._note(problem)
            raise DatabaseUnavailableError

    def _reason_of(self, error: Exception) -> str:
        name = getattr(getattr(error, "orig", None), "sqlite_errorname", None) or ""
        reason = SQLITE_REASONS.get(name) or SQLITE_REASONS.get(
            "_".join(name.split("_")[:2]), NO_ANSWER
        )
        if reason == DISK_FULL and self.reserve:
            self.reserve.release()
        if reason == FILE_DAMAGED and self._file:
            self._file.condemn()
        return reason

    def _note(self, problem: str | None) -> None:
        """Log the begin and the end of an outage, without the error's text, which has paths."""
        self.problem = problem
        if problem:
            self.outages += 1
        if problem and self._answered:
            logger.warning("the job database cannot be used: %s", problem)
        elif self._answered is False and not problem:
            logger.warning("the job database answers again")
        self._answered = problem is None


async def open_database(url: str, reserve_bytes: int | None = None) -> Database:
    """Open a database and upgrade it to the schema of this version.

    ``reserve_bytes`` of its disk are reserved for an SQLite file (see `proxy.disk`). Raises
    ``InputError`` for an invalid URL, ``ServerError`` if the database cannot be used.
    """
    driver_url = _driver_url(url)
    path = Path(str(driver_url.database)) if driver_url.get_backend_name() == "sqlite" else None
    reserve = DiskReserve(path, reserve_bytes) if path and reserve_bytes else None
    if reserve:
        reserve.guard()
    lookups = None if path else create_async_engine(driver_url, **LOOKUP_OPTIONS)
    database = Database(_engine(driver_url), reserve, lookups)
    try:
        async with database.exclusive() as connection:
            await connection.run_sync(_upgrade)
        if path:
            database.watch(await asyncio.to_thread(SqliteFile, path))
    except (DatabaseUnavailableError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        await database.close()
        raise ServerError(
            f"the job database cannot be used: {_reason(error.__cause__ or error)}"
        ) from None
    except ServerError:
        await database.close()
        raise
    return database


def sqlite_url(path: Path) -> str:
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def with_password(text: str, password: str) -> str:
    """Return the URL with ``password``, escaped. Raises ``InputError`` for an invalid URL."""
    return _read(text).set(password=password).render_as_string(hide_password=False)


def _driver_url(text: str) -> URL:
    url = _read(text)
    url = url.set(drivername=DRIVERS[url.drivername])
    # Other clients of PostgreSQL call it sslmode; this driver calls it ssl, with the same values.
    mode = url.query.get("sslmode")
    return (
        url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode}) if mode else url
    )


def _read(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # Without the URL, which may hold a password.
        raise InputError(
            "database_url",
            "cannot be read; special characters of a password are written as %40 and the like",
        ) from None


def _engine(url: URL) -> AsyncEngine:
    postgresql = url.get_backend_name() == "postgresql"
    if not postgresql:
        _try_file(str(url.database))
    engine = create_async_engine(url, **(POSTGRESQL_OPTIONS if postgresql else COMMON_OPTIONS))
    if not postgresql:
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def _try_file(path: str) -> None:
    # Before aiosqlite, whose thread may outlive the event loop if the file cannot be opened.
    with suppress(OSError):  # SQLite reports it below
        make_private(Path(path))
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise ServerError(f"the job database cannot be used: {error}") from None


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # A writer waits for another one instead of failing; readers never wait.
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
    cursor.close()


def _upgrade(connection: Connection) -> None:
    scripts = _migrations()
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {each.revision for each in scripts.walk_revisions()}:
        raise ServerError(
            "the job database was written by a newer version of triton-video; use that version"
        )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@functools.cache
def _migrations() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS_FOLDER))


def _reason(error: BaseException) -> str:
    if isinstance(error, DBAPIError):
        return str(error.orig)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
