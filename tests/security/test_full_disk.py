"""Attacks on the disk: it fills up under a running server, and before one starts."""

# ruff: noqa: F401, F811 - fixtures of tests.proxy

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.disk import SUFFIX
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
    monkeypatch.setattr("proxy.worker.RETRY_PAUSE_S", 0.02)
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


async def ready(api: Api) -> tuple[int, dict[str, str]]:
    answer = await api.http.get("/readyz")
    return answer.status_code, answer.json()["reasons"]


@pytest.mark.attack(
    "the disk with database and videos is filled while a video is made",
    "the job stayed in_progress, DELETE answered 503, /readyz 200",
)
@pytest.mark.usefixtures("data_disk")
async def test_a_full_disk_is_survived_and_reported(
    serve: Opener, data_disk: Path, after: After
) -> None:
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
        deleted = [await api.http.delete(f"/v1/videos/{name}") for name in (kept["id"], running)]
        assert [answer.status_code for answer in deleted] == [200, 200]
        await asyncio.sleep(0.2)
        assert (await api.wait(waiting, "queued"))["status"] == "queued", "no video is made in vain"
        after(
            f"job failed with storage_error, DELETE 200, create 507, /readyz {status}: "
            f"{reasons['storage']}"
        )
        filler.unlink()
        assert (await api.wait(waiting))["status"] == "completed", "without a restart"
        assert (await api.wait((await api.create())["id"]))["status"] == "completed"
        assert await ready(api) == (200, {})
        assert (data_disk / f"jobs.sqlite{SUFFIX}").stat().st_blocks * 512 >= RESERVE // 2


@pytest.mark.attack(
    "a server is restarted on a full disk", "it did not start: nothing could be deleted"
)
@pytest.mark.usefixtures("data_disk")
async def test_a_server_starts_on_a_full_disk(serve: Opener, data_disk: Path, after: After) -> None:
    async with serve(disk_reserve_bytes=RESERVE) as api:
        made = await api.wait((await api.create())["id"])
    fill(data_disk)
    async with serve(disk_reserve_bytes=RESERVE) as api:
        assert (await ready(api))[0] == 503
        assert (await api.http.get(f"/v1/videos/{made['id']}/content")).content == MP4
        assert (await api.http.delete(f"/v1/videos/{made['id']}")).status_code == 200
    after("it starts, serves content, deletes, and is not ready")


@pytest.mark.attack(
    "videos and reference images fill the disk", "they took the space of the job database"
)
@pytest.mark.usefixtures("data_disk")
async def test_videos_leave_the_reserve_to_the_database(
    serve: Opener, data_disk: Path, monkeypatch: pytest.MonkeyPatch, after: After
) -> None:
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
            await api.service.store.put_input(bytes(8 * MIB), 8 * MIB)
        assert (await api.http.delete(f"/v1/videos/{codes[0]}")).status_code == 200
        assert (await api.wait((await api.create())["id"]))["status"] == "completed"
        after(
            f"storage_error, with {free // MIB} of 40 MiB free and the database's file of 8 MiB in "
            "place"
        )
