"""Opening the job database: valid URLs, concurrent opening, and errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from pipeline.errors import InputError, ServerError
from proxy.jobs.database import _driver_url, open_database
from proxy.jobs.store import JobStore
from proxy.jobs.tables import videos
from proxy.settings import ProxySettings
from tests.proxy.jobs.test_store import MODELS, add

OPEN = """
import asyncio, sys
from proxy.jobs.database import open_database

async def main():
    print("ready", flush=True)
    input()
    await (await open_database(sys.argv[1])).close()

asyncio.run(main())
"""


async def refusal(url: str) -> str:
    with pytest.raises((InputError, ServerError)) as caught:
        await open_database(url)
    assert "secret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://u:secret@h/d", "postgres://h/d", "postgresql+psycopg2://h/d", "postgresql://",
     "sqlite://",
     "sqlite:///:memory:", "sqlite:///x?mode=ro", "/var/lib/jobs", ""],
)  # fmt: skip
def test_unknown_database_url_is_refused(url):
    with pytest.raises(
        ValueError, match=r"should be postgresql://\.\.\. or sqlite:///PATH"
    ) as caught:
        ProxySettings(database_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1/db?sslmode=require",
        "postgresql:///db?host=/run/postgresql",
        "sqlite:///a b",
    ],
)
def test_valid_database_url_is_accepted(url):
    settings = ProxySettings(database_url=url)
    assert settings.database_url == url
    assert "hunter2" not in repr(settings)


def test_url_is_translated_for_the_driver():
    url = _driver_url(
        "postgresql://u:p%40ss@db.example:5433/jobs?sslmode=require&target_session_attrs=read-write"
    )
    assert (url.drivername, url.password, dict(url.query)) == (
        "postgresql+asyncpg",
        "p@ss",
        {"ssl": "require", "target_session_attrs": "read-write"},
    )
    assert _driver_url("sqlite:////var/jobs").drivername == "sqlite+aiosqlite"


async def test_unusable_database_is_a_server_error(tmp_path, postgres):
    beginning = "the job database cannot be used: "
    assert (await refusal("postgresql://u:secret@127.0.0.1:1/x")).startswith(beginning)
    assert "role" in await refusal(postgres.url("postgres").replace("tests@", "nobody:secret@"))
    assert '"none" does not exist' in await refusal(postgres.url("none"))
    assert "unable to open database file" in await refusal(f"sqlite:///{tmp_path}/no/folder")
    (tmp_path / "text").write_text("this is no database" * 100)
    assert "not a database" in await refusal(f"sqlite:///{tmp_path}/text")
    assert "%40" in await refusal("postgresql://u:secret@host:port@host/x")


async def test_newer_database_is_refused(database_url):
    database = await open_database(database_url)
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    assert "newer version of triton-video" in await refusal(database_url)


async def test_older_database_is_upgraded_with_its_jobs(database_url):
    database = await open_database(database_url)
    await add(JobStore(database, ProxySettings()), "kept")
    async with database.begin() as connection:
        for statement in (
            *[
                f"ALTER TABLE videos DROP COLUMN {name}"
                for name in ("last_frame", "input_video", "source_frames", "source_video")
            ],
            "ALTER TABLE videos DROP COLUMN peak_memory_bytes",
            "ALTER TABLE videos DROP COLUMN image_format",
            "ALTER TABLE videos DROP COLUMN metadata",
            "ALTER TABLE videos DROP COLUMN model_alias",
            "DROP TABLE probe",
            "ALTER TABLE videos DROP COLUMN picture",
            "DROP TABLE events",
            "ALTER TABLE videos DROP COLUMN trace",
            "DROP TABLE turns",
            "DROP INDEX videos_by_expiry",
            "ALTER TABLE videos DROP COLUMN lease_beats",
            "ALTER TABLE videos ADD COLUMN lease_until FLOAT",
            "UPDATE alembic_version SET version_num = '0001'",
        ):
            await connection.execute(text(statement))
    await database.close()
    database = await open_database(database_url)
    claim = await JobStore(database, ProxySettings()).claim(MODELS)
    assert claim.job.params.prompt == "kept"
    await database.close()


def test_several_processes_can_create_the_database(database_url):
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, database_url],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in processes] == [
        ("", 0)
    ] * 3


async def test_claim_reads_no_finished_jobs(database_url):
    plan_of = "EXPLAIN QUERY PLAN " if database_url.startswith("sqlite") else "EXPLAIN "
    finished = {
        "model": "m", "params": "{}", "body_hash": "x", "status": "completed", "progress": 100,
        "attempts": 1,
        "created_at": 1.0, "expires_at": 1e10,
    }  # fmt: skip

    database = await open_database(database_url)
    jobs = JobStore(database, ProxySettings())
    async with database.begin() as connection:
        rows = [finished | {"id": f"video_{i}", "owner": f"{i % 50}"} for i in range(10_000)]
        await connection.execute(videos.insert(), rows)
    for number in range(100):
        await add(jobs, "x", owner=f"{number % 7}")
    async with database.begin() as connection:
        await connection.execute(text("ANALYZE"))
    said: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    claim = await jobs.claim(MODELS)
    await jobs.renew(claim, 1)
    await jobs.complete(claim, "file")
    await jobs.sweep()
    event.remove(Engine, "before_cursor_execute", note)
    statements = [(words, values) for words, values in said if "videos" in words]
    assert len(statements) > 5
    async with database.begin() as connection:
        for words, values in statements:
            plan = str((await connection.exec_driver_sql(plan_of + words, values)).all())
            assert "SCAN videos" not in plan, words
            assert "Seq Scan on videos" not in plan, words
    await database.close()
