"""Reading one job, on each database: fresh, complete, and without holding anything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import DatabaseUnavailableError
from proxy.jobs.sqlite_file import SqliteFile
from tests.proxy.jobs.test_store import MODELS, Clock, add, opened
from tests.proxy.postgres import Postgres


async def test_changes_of_another_process_are_seen_at_once(database_url: str) -> None:
    async with opened(database_url, Clock()) as here, opened(database_url, Clock()) as there:
        video_id = await add(there, "x")
        claim = await there.claim(MODELS)
        assert claim
        for percent in range(1, 20):
            await there.renew(claim, percent)
            job = await here.get("a", video_id)
            assert job
            assert job.progress == percent
        await there.delete("a", video_id)
        assert await here.get("a", video_id) is None


async def test_job_is_the_same_as_in_a_transaction(database_url: str) -> None:
    async with opened(database_url, Clock()) as jobs:
        video_id = await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        assert claim
        await jobs.complete(claim, "file")
        job = await jobs.get("a", video_id)
        assert job
        assert [job] == await jobs.current([video_id])
        assert job.file == "file"


@pytest.mark.parametrize(
    ("owner", "name"), [("b", "{}"), ("a", "{}x"), ("a", "{}\0"), ("a", "' OR 1=1 --")]
)
async def test_job_of_another_name_or_owner_is_none(
    database_url: str, owner: str, name: str
) -> None:
    async with opened(database_url, Clock()) as jobs:
        video_id = await add(jobs, "x")
        assert await jobs.get(owner, name.format(video_id)) is None


async def test_first_read_after_a_restart_of_postgresql_succeeds(
    postgres: Postgres, postgres_database: str
) -> None:
    async with opened(postgres_database, Clock()) as jobs:
        video_id = await add(jobs, "x")
        assert await jobs.get("a", video_id)
        postgres.stop()
        postgres.start()
        assert await jobs.get("a", video_id)


async def test_outage_of_postgresql_is_counted_once_a_read(
    postgres: Postgres, postgres_database: str
) -> None:
    async with opened(postgres_database, Clock()) as jobs:
        video_id = await add(jobs, "x")
        postgres.stop()
        try:
            with pytest.raises(DatabaseUnavailableError):
                await jobs.get("a", video_id)
        finally:
            postgres.start()
        assert jobs._database.outages == 1
        assert await jobs.get("a", video_id)


async def test_reading_keeps_no_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "jobs"
    async with opened(f"sqlite:///{path}", Clock()) as jobs:
        video_id = await add(jobs, "x")
        assert await jobs.get("a", video_id)
        await add(jobs, "y")
        with closing(sqlite3.connect(path)) as other:
            busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy


async def test_job_is_read_in_a_transaction_where_the_direct_way_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SqliteFile] = []

    def locked(file: SqliteFile, *_: object) -> None:
        asked.append(file)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(SqliteFile, "first", locked)
    async with opened(f"sqlite:///{tmp_path}/jobs", Clock()) as jobs:
        video_id = await add(jobs, "x")
        job = await jobs.get("a", video_id)
        assert job
        assert (job.id, len(asked)) == (video_id, 1)
