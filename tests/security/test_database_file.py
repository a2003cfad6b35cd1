"""Attacks on the job database: its file is removed, replaced or overwritten."""

# ruff: noqa: F401, F811 - fixtures of tests.proxy

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.conftest import (
    Api,
    Opener,
    _no_waiting_for_the_disk,
    info,
    serve,
    stores,
)

After = Callable[[str], None]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.worker.RETRY_PAUSE_S", 0.02)
    monkeypatch.setattr("proxy.readiness.MAX_AGE_S", 0)


async def ready(api: Api) -> tuple[int, dict[str, str]]:
    answer = await api.http.get("/readyz")
    return answer.status_code, answer.json()["reasons"]


def remove(path: Path) -> None:
    path.rename(path.with_name("away"))


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_name("away"))
    path.with_name("away").replace(path.with_name("copy"))
    path.rename(path.with_name("away"))
    path.with_name("copy").rename(path)


def remove_wal(path: Path) -> None:
    path.with_name(f"{path.name}-wal").rename(path.with_name("away-wal"))


def restore(path: Path) -> None:
    for name in ("away", "away-wal"):
        if path.with_name(name).exists():
            path.with_name(name).replace(path.with_name(path.name + name.removeprefix("away")))


@pytest.mark.attack(
    "the SQLite file is removed or replaced under a running server",
    "every answer was 200, and all jobs were lost at the restart",
)
@pytest.mark.parametrize("fault", [remove, replace, remove_wal], ids=lambda fault: fault.__name__)
async def test_a_database_that_is_moved_away_is_noticed(
    serve: Opener,
    tmp_path: Path,
    fault: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    after: After,
) -> None:
    database = tmp_path / "data" / "jobs.sqlite"

    async with serve() as api:
        kept = await api.wait((await api.create())["id"])
        await asyncio.to_thread(fault, database)
        status, reasons = await ready(api)
        assert (status, "removed or replaced" in reasons["database"]) == (503, True)
        refused = [await api.http.post("/v1/videos", json={"prompt": "x"}) for _ in range(3)]
        assert {answer.json()["error"]["code"] for answer in refused} == {"database_unavailable"}
        assert sum("cannot be used" in line for line in caplog.messages) == 1, (
            "one line, not one a second"
        )
        await asyncio.to_thread(restore, database)
        assert await ready(api) == (200, {})
        made = await api.wait((await api.create())["id"])
    async with serve() as api:
        listed = [video["id"] for video in (await api.http.get("/v1/videos")).json()["data"]]
        assert listed == [made["id"], kept["id"]], "nothing that was accepted is lost"
    after(f"/readyz {status}, POST {refused[0].status_code}; with the file back it continues")


def change(path: Path) -> None:
    """A change that is in the file itself. For a thread: a server that holds the lock must run."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE growth (text)")
        connection.execute("PRAGMA wal_checkpoint")


def another_database(path: Path) -> None:
    other = path.with_name("other.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE videos (id TEXT)")
    path.write_bytes(other.read_bytes())


def older_copy(path: Path) -> None:
    path.write_bytes(path.with_name("backup").read_bytes())


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


@pytest.mark.attack(
    "the SQLite file is overwritten in place under a running server",
    "503 'the job database does not answer', with no word of the file or of a restart",
)
@pytest.mark.parametrize(
    "fault", [another_database, older_copy, no_bytes, noise], ids=lambda fault: fault.__name__
)
async def test_a_database_that_is_overwritten_is_noticed(
    serve: Opener,
    tmp_path: Path,
    fault: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    after: After,
) -> None:
    database = tmp_path / "data" / "jobs.sqlite"

    async with serve() as api:
        shutil.copyfile(database, database.with_name("backup"))
        await api.wait((await api.create())["id"])
        await asyncio.to_thread(change, database)
        assert await ready(api) == (200, {})
        original = database.read_bytes()
        await asyncio.to_thread(fault, database)
        status, reasons = await ready(api)
        assert (status, "restart" in reasons["database"]) == (503, True)
        refused = await api.http.post("/v1/videos", json={"prompt": "x"})
        assert refused.json()["error"]["code"] == "database_unavailable"
        database.write_bytes(original)
        assert (await ready(api))[0] == 503, "memory and file may differ: only a restart is safe"
        assert sum("cannot be used" in line for line in caplog.messages) == 1
    async with serve() as api:
        assert len((await api.http.get("/v1/videos")).json()["data"]) == 1
    after(f"/readyz {status}, POST {refused.status_code}: {reasons['database']}")
