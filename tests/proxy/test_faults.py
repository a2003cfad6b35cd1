"""Failures of the database and the store in the middle of work, with real servers and disks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from proxy.errors import DatabaseUnavailableError
from proxy.jobs.model import JobClaim
from proxy.service import sweep
from tests.proxy.conftest import Api, Opener, on_both
from tests.proxy.jobs.test_store import MODELS, Clock, add, opened
from tests.proxy.postgres import Postgres
from tests.waiting import async_wait_for

on_fleet = pytest.mark.parametrize("stores", ["fleet"], indirect=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "RETRY_PAUSE_S"):
        monkeypatch.setattr(f"proxy.worker.{name}", 0.02)
    monkeypatch.setattr("proxy.updates.TICK_S", 0.02)


async def files_of(api: Api) -> list[str]:
    return await api.service.store.older_than(-1)


@on_fleet
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "killed"])
async def test_job_survives_a_restart_of_postgresql(
    serve: Opener, postgres: Postgres, how: signal.Signals
) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        await api.wait(video_id, "in_progress")
        over, seen = asyncio.Event(), set()

        async def poll() -> None:
            while not over.is_set():
                answer = await api.http.get(f"/v1/videos/{video_id}")
                seen.add(
                    (
                        answer.status_code,
                        answer.json().get("error") and answer.json()["error"]["code"],
                    )
                )
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(poll())
            events = group.create_task(api.http.get(f"/v1/videos/{video_id}/events"))
            await async_wait_for(lambda: api.service.updates._followers and seen)
            await asyncio.to_thread(postgres.stop, how)
            try:
                await _everything_says_503(api, video_id)
            finally:
                postgres.start()
            api.triton.gate.set()
            done = await _wait_through(api, video_id)
            over.set()
        assert (done["status"], api.triton.made) == ("completed", ["a red circle"])
        assert seen == {(200, None), (503, "database_unavailable")}
        assert '"status":"completed"' in events.result().text.replace(" ", ""), (
            "followers get the last state"
        )
        assert (await api.http.get(f"/v1/videos/{video_id}/content")).status_code == 200


async def _everything_says_503(api: Api, video_id: str) -> None:
    for method, url in (
        ("GET", "/v1/videos"),
        ("POST", "/v1/videos"),
        ("GET", f"/v1/videos/{video_id}"),
        ("DELETE", f"/v1/videos/{video_id}"),
        ("POST", f"/v1/videos/{video_id}/cancel"),
        ("GET", f"/v1/videos/{video_id}/content"),
    ):
        answer = await api.http.request(
            method, url, json={"prompt": "x"} if method == "POST" else None
        )
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (
            503,
            "database_unavailable",
            "server_error",
        )
        assert answer.headers["retry-after"] == "5"
    ready = await api.http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, False)
    assert (await api.http.get("/livez")).status_code == 200


async def _wait_through(api: Api, video_id: str) -> dict[str, Any]:
    """Poll until the video is finished, through an outage, as clients do."""
    async with asyncio.timeout(20):
        while True:
            answer = await api.http.get(f"/v1/videos/{video_id}")
            if answer.status_code == 200 and answer.json()["status"] in ("completed", "failed"):
                return answer.json()
            await asyncio.sleep(0.01)


@on_fleet
async def test_result_is_written_after_an_outage_of_postgresql(
    serve: Opener, postgres: Postgres
) -> None:
    async with serve() as api:
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        await api.wait(video_id, "in_progress")
        await asyncio.to_thread(postgres.stop)
        try:
            api.triton.gate.set()
            await async_wait_for(lambda: files_of(api), 10)
            await asyncio.sleep(0.1)
        finally:
            postgres.start()
        assert (await _wait_through(api, video_id))["status"] == "completed"
        assert (len(api.triton.made), len(await files_of(api))) == (1, 1)


async def test_outage_longer_than_a_lease_loses_no_job(
    postgres: Postgres, postgres_database: str
) -> None:
    clock = Clock()
    async with opened(postgres_database, clock) as jobs:
        await add(jobs, "x")
        claim = await jobs.claim(MODELS)
        assert await jobs.claim(MODELS) is None
        await asyncio.to_thread(postgres.stop)
        try:
            clock.wait(100)
            with pytest.raises(DatabaseUnavailableError):
                await jobs.claim(MODELS)
        finally:
            postgres.start()
        assert await jobs.claim(MODELS) is None
        assert await jobs.renew(claim, 5)
        clock.wait(31)
        assert (await jobs.claim(MODELS)).attempt == 2, "the outage restarted the lease"


async def test_late_heartbeats_do_not_lose_a_job_to_its_own_process(
    serve: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is so slow that no heartbeat is written within a lease."""
    async with serve(lease_s=1, jobs_per_triton=2) as api:
        jobs, over = api.service.jobs, asyncio.Event()
        renew = jobs.renew

        async def late(claim: JobClaim, progress: int) -> bool:
            await over.wait()
            return await renew(claim, progress)

        monkeypatch.setattr(jobs, "renew", late)
        api.triton.gate.clear()
        video_id = (await api.create())["id"]
        await api.wait(video_id, "in_progress")
        await asyncio.sleep(2)
        over.set()
        api.triton.gate.set()
        assert (await api.wait(video_id))["status"] == "completed"
        assert len(api.triton.made) == 1


async def test_server_stops_during_an_outage_of_postgresql(
    serve: Opener, postgres: Postgres, postgres_database: str
) -> None:
    try:
        async with asyncio.timeout(20), serve(database_url=postgres_database) as api:
            api.triton.gate.clear()
            video_id = (await api.create())["id"]
            await api.wait(video_id, "in_progress")
            await asyncio.to_thread(postgres.stop)
    finally:
        postgres.start()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with one MiB of space."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk is mounted here, which only root may do")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", [2 << 20, 12 << 20])
async def test_full_disk_fails_one_job_only(
    serve: Opener, small_disk: Path, monkeypatch: Any, size: int
) -> None:
    async with serve(store_url=f"file://{small_disk}") as api:
        monkeypatch.setattr("tests.proxy.conftest.MP4", os.urandom(size))
        failed = await api.wait((await api.create())["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_error")
        assert str(small_disk) not in failed["error"]["message"]
        assert [path for path in small_disk.rglob("*") if path.is_file()] == []
        monkeypatch.setattr("tests.proxy.conftest.MP4", b"small")
        done = await api.wait((await api.create())["id"])
        assert done["status"] == "completed"


@on_fleet
async def test_outage_of_the_store_fails_one_job_only(
    serve: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as api:
        video_id = (await api.create())["id"]
        await api.wait(video_id)
        files = api.service.store
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        working, away = files._store, type(files).open("s3://videos/x")._store
        files._store = away
        failed = await api.wait((await api.create())["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_error")
        answer = await api.http.get(f"/v1/videos/{video_id}/content")
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            503,
            "storage_unavailable",
        )
        assert answer.headers["retry-after"] == "5"
        assert (await api.http.delete(f"/v1/videos/{failed['id']}")).status_code == 200
        files._store = working
        assert (await api.http.get(f"/v1/videos/{video_id}/content")).status_code == 200
        files._store = away
        assert (await api.http.delete(f"/v1/videos/{video_id}")).status_code == 200
        files._store = working
        await sweep(api.service.jobs, files, orphan_age_s=-1)
        assert await files.older_than(-1) == [], "the sweeper removes the leftovers"


@on_both
async def test_delete_races_completion_without_leftovers(serve: Opener) -> None:
    """No orphaned file and no resurrected row; a second delete finds nothing."""
    async with serve() as api:
        for number in range(200):
            made = (await api.create())["id"]
            for _ in range(number % 40):
                await asyncio.sleep(0)
            answers = [(await api.http.delete(f"/v1/videos/{made}")).status_code for _ in range(2)]
            assert answers == [200, 404]
        last = (await api.create())["id"]
        await api.wait(last, "completed")
        assert [video["id"] for video in (await api.http.get("/v1/videos")).json()["data"]] == [
            last
        ]

        # The files of earlier videos may still be on their way out.
        async def one_is_left() -> bool:
            return len(await files_of(api)) <= 1

        await async_wait_for(one_is_left, 5)
        assert (await files_of(api))[0].startswith(last)


@pytest.mark.slow
async def test_thousand_videos_leak_nothing(serve: Opener) -> None:
    """Memory, descriptors, files and rows return to their start."""
    process = psutil.Process()

    async def cycles(api: Api, count: int) -> None:
        for _ in range(count // 10):
            made = [(await api.create())["id"] for _ in range(10)]
            for video_id in made:
                await api.wait(video_id, "completed")
                assert (await api.http.delete(f"/v1/videos/{video_id}")).status_code == 200
            # What the fake Triton noted is not the server's.
            api.triton.inputs.clear()
            api.triton.params.clear()

    async with serve() as api:
        await cycles(api, 50)
        before = _held(process)
        await cycles(api, 950)
        after = _held(process)
        # A leak per video would show 950 times.
        assert after["objects"] - before["objects"] < 500
        assert after["memory"] - before["memory"] < 32 << 20
        assert after["descriptors"] - before["descriptors"] < 50, "a pool fills, to a bound"
        assert after["tasks"] - before["tasks"] < 10
        assert await files_of(api) == []
        assert (await api.http.get("/v1/videos")).json()["data"] == []


def _held(process: psutil.Process) -> dict[str, int]:
    gc.collect()
    return {
        "objects": len(gc.get_objects()),
        "memory": process.memory_info().rss,
        "descriptors": process.num_fds(),
        "tasks": len(asyncio.all_tasks()),
    }
