"""Attacks on the disk: it fills up, files are removed or replaced, and other users read them."""

# ruff: noqa: F401, F811 - fixtures of tests.proxy

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cli.output.files import Destination
from cli.params.groups import OutputParams
from export.cache import building, open_cache
from proxy.disk import SUFFIX
from tests.conftest import ROOT
from tests.proxy.conftest import (
    MP4,
    Api,
    Opener,
    _no_waiting_for_the_disk,
    info,
    serve,
    stores,
)

After = Callable[[str], None]
MIB = 1 << 20
RESERVE = 16 * MIB


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.worker.AFTER_TROUBLE_S", 0.02)
    monkeypatch.setattr("proxy.readiness.MAX_AGE_S", 0)


@pytest.fixture
def data_disk(tmp_path: Path) -> Iterator[Path]:
    """The data folder on a disk of its own with 40 MiB."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk is mounted here, which only root may do")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Another program's file that takes all the space there is."""
    path = folder / "other-program"
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (folder / "one-byte").write_bytes(b"x")
    (folder / "one-byte").unlink()
    return path


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def ready(api: Api) -> tuple[int, dict[str, str]]:
    answer = await api.http.get("/readyz")
    return answer.status_code, answer.json()["reasons"]


@pytest.mark.attack(
    "the disk with database and videos is filled while a video is made",
    "the job stayed in_progress, DELETE answered 503, /readyz 200",
)
@pytest.mark.usefixtures("data_disk")
def test_a_full_disk_is_survived_and_reported(serve: Opener, data_disk: Path, after: After) -> None:
    async def scenario() -> None:
        async with serve(disk_reserve_bytes=RESERVE) as api:
            kept = await api.wait((await api.create())["id"])
            api.triton.gate.clear()
            running = (await api.create())["id"]
            await api.wait(running, "in_progress")
            waiting = (await api.create())["id"]
            filler = fill(data_disk)
            status, reasons = await ready(api)
            assert (status, set(reasons)) == (503, {"storage"})
            refused = await api.http.post("/v1/videos", json={"prompt": "x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
            api.triton.gate.set()
            failed = await api.wait(running)
            assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_error")
            deleted = [
                await api.http.delete(f"/v1/videos/{name}") for name in (kept["id"], running)
            ]
            assert [answer.status_code for answer in deleted] == [200, 200]
            await asyncio.sleep(0.2)
            assert (await api.wait(waiting, "queued"))["status"] == "queued", (
                "no video is made in vain"
            )
            after(
                f"job failed with storage_error, DELETE 200, create 507, /readyz {status}: {reasons['storage']}"
            )
            filler.unlink()
            assert (await api.wait(waiting))["status"] == "completed", "without a restart"
            assert (await api.wait((await api.create())["id"]))["status"] == "completed"
            assert await ready(api) == (200, {})
            assert (data_disk / f"jobs.sqlite{SUFFIX}").stat().st_blocks * 512 >= RESERVE // 2

    run(scenario())


@pytest.mark.attack(
    "a server is restarted on a full disk", "it did not start: nothing could be deleted"
)
@pytest.mark.usefixtures("data_disk")
def test_a_server_starts_on_a_full_disk(serve: Opener, data_disk: Path, after: After) -> None:
    async def scenario() -> None:
        async with serve(disk_reserve_bytes=RESERVE) as api:
            made = await api.wait((await api.create())["id"])
        fill(data_disk)
        async with serve(disk_reserve_bytes=RESERVE) as api:
            assert (await ready(api))[0] == 503
            assert (await api.http.get(f"/v1/videos/{made['id']}/content")).content == MP4
            assert (await api.http.delete(f"/v1/videos/{made['id']}")).status_code == 200
        after("it starts, serves content, deletes, and is not ready")

    run(scenario())


@pytest.mark.attack(
    "videos and reference images fill the disk", "they took the space of the job database"
)
@pytest.mark.usefixtures("data_disk")
def test_videos_leave_the_reserve_to_the_database(
    serve: Opener, data_disk: Path, monkeypatch: pytest.MonkeyPatch, after: After
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("tests.proxy.conftest.MP4", os.urandom(7 * MIB))
        async with serve(disk_reserve_bytes=RESERVE) as api:
            codes = []
            while (
                answer := await api.http.post("/v1/videos", json={"prompt": "x"})
            ).status_code == 200:
                video = await api.wait(answer.json()["id"])
                codes.append(video["error"]["code"] if video["error"] else video["id"])
                if codes[-1] == "storage_error":
                    break
            free = shutil.disk_usage(data_disk).free
            assert codes[-1] == "storage_error"
            assert len(codes) >= 2
            assert free >= RESERVE // 2
            assert (data_disk / f"jobs.sqlite{SUFFIX}").exists()
            with pytest.raises(Exception, match="disk is full"):
                await api.app.state.service.files.put_picture(bytes(8 * MIB))
            assert (await api.http.delete(f"/v1/videos/{codes[0]}")).status_code == 200
            assert (await api.wait((await api.create())["id"]))["status"] == "completed"
            after(
                f"storage_error, with {free // MIB} of 40 MiB free and the database's file of 8 MiB in place"
            )

    run(scenario())


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
def test_a_database_that_is_moved_away_is_noticed(
    serve: Opener,
    tmp_path: Path,
    fault: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    after: After,
) -> None:
    database = tmp_path / "data" / "jobs.sqlite"

    async def scenario() -> None:
        async with serve() as api:
            kept = await api.wait((await api.create())["id"])
            await asyncio.to_thread(fault, database)
            status, reasons = await ready(api)
            assert (status, "removed or replaced" in reasons["database"]) == (503, True)
            refused = [await api.http.post("/v1/videos", json={"prompt": "x"}) for _ in range(3)]
            assert {answer.json()["error"]["code"] for answer in refused} == {
                "database_unavailable"
            }
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

    run(scenario())


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
def test_a_database_that_is_overwritten_is_noticed(
    serve: Opener,
    tmp_path: Path,
    fault: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    after: After,
) -> None:
    database = tmp_path / "data" / "jobs.sqlite"

    async def scenario() -> None:
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
            assert (await ready(api))[0] == 503, (
                "memory and file may differ: only a restart is safe"
            )
            assert sum("cannot be used" in line for line in caplog.messages) == 1
        async with serve() as api:
            assert len((await api.http.get("/v1/videos")).json()["data"]) == 1
        after(f"/readyz {status}, POST {refused.status_code}: {reasons['database']}")

    run(scenario())


def modes(folder: Path) -> dict[str, int]:
    """Every path below the folder that another user may reach and read."""
    open_to_others: dict[str, int] = {}
    for path in (folder, *folder.rglob("*")):
        if path.lstat().st_mode & 0o077:
            open_to_others[path.relative_to(folder.parent).as_posix()] = (
                path.lstat().st_mode & 0o777
            )
    return open_to_others


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.attack(
    "another user reads the data folder", "database 0644, videos 0644 in a folder 0755"
)
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_data_is_for_its_user_only(
    serve: Opener, tmp_path: Path, existing: bool, after: After
) -> None:
    data = tmp_path / "data"

    async def scenario() -> None:
        if existing:  # as an earlier version left it
            async with serve() as api:
                await api.wait((await api.create())["id"])
            for path in (data, *data.rglob("*")):
                path.chmod(0o777 if path.is_dir() else 0o666)
        async with serve() as api:
            await api.wait((await api.create())["id"])
            reachable = [name for name in modes(data) if not name.startswith("data/videos/")]
            assert reachable == []
        after("folders 0700, files 0600, whatever the umask and the modes before")

    run(scenario())


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_server_writes_for_its_user_only_whatever_the_umask(
    tmp_path: Path, umask: None, command: str
) -> None:
    flags = ["--triton-url", "127.0.0.1:1", "--data-path", str(tmp_path / "data")]
    flags += ["--port", "0", "--no-auth"] if command == "serve" else []
    with subprocess.Popen(
        [sys.executable, "-m", "cli", command, *flags], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        try:
            status = Path(f"/proc/{process.pid}/status")
            deadline = time.monotonic() + 60
            while "Umask:\t0077" not in status.read_text() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
            assert "Umask:\t0077" in status.read_text()
            while (
                not (tmp_path / "data" / "jobs.sqlite-wal").exists() and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            assert modes(tmp_path / "data") == {}
        finally:
            process.terminate()


def test_a_folder_with_other_things_in_it_keeps_its_mode(
    serve: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "notes.txt").touch()
    data.chmod(0o777)

    async def scenario() -> None:
        async with serve():
            assert data.stat().st_mode & 0o777 == 0o777
            assert set(modes(data / "videos")) == set()
            assert (data / "jobs.sqlite").stat().st_mode & 0o077 == 0
            assert any("other users may write" in line for line in caplog.messages)

    run(scenario())


@pytest.mark.attack("another user reads what `generate` is still writing", "temporary files 0644")
@pytest.mark.parametrize("mask", [0o022, 0o002])
def test_an_output_is_private_until_it_is_whole(
    tmp_path: Path, umask: None, mask: int, after: After
) -> None:
    os.umask(mask)
    seen: list[int] = []

    def frames(file: BinaryIO) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.glob(".*.npy.part-*"))
        file.write(b"frames")

    params = OutputParams(output_path=tmp_path, return_frames=True)
    with Destination(params, "a red circle") as destination:
        video, array = destination.write(b"mp4", frames)
    assert array is not None
    assert seen == [0o600]
    assert [path.stat().st_mode & 0o777 for path in (video, array)] == [0o666 & ~mask] * 2
    after("temporary files 0600; finished ones have the modes that the umask gives")


@pytest.mark.attack("another user reads the cache of exported checkpoints", "folders 0755")
@pytest.mark.usefixtures("umask")
def test_the_cache_is_for_its_user_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: After
) -> None:
    monkeypatch.setenv("TRITON_VIDEO_CACHE", str(tmp_path / "new" / "cache"))
    cache = open_cache()
    with building(cache / "repositories" / "key") as folder:
        assert folder is not None
        (folder / "config.pbtxt").touch()
    assert [path.stat().st_mode & 0o777 for path in (cache, cache / "repositories" / "key")] == [
        0o700
    ] * 2
    usual = tmp_path / "triton-video"
    usual.mkdir()
    usual.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    assert [open_cache(each).stat().st_mode & 0o777 for each in (usual, shared)] == [0o700, 0o775]
    after("0700; one that the operator created keeps its mode")
