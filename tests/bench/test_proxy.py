"""What `bench/proxy.py` counts, and the jobs that it stores."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.lib.proxy.load import percentile
from bench.lib.proxy.program import store_jobs
from proxy.jobs.database import open_database, sqlite_url
from proxy.jobs.store import JobStore
from proxy.keys import ANYONE
from proxy.schema import Video
from proxy.settings import WorkSettings


def test_percentile_is_a_measured_value() -> None:
    times = [float(number) for number in range(100, 0, -1)]
    assert (percentile(times, 0.5), percentile(times, 0.99), percentile(times, 1.0)) == (
        51,
        100,
        100,
    )
    assert percentile([7.0], 0.99) == 7


async def test_stored_jobs_are_listed_as_videos(tmp_path: Path) -> None:
    ids = await asyncio.to_thread(store_jobs, tmp_path, 3)  # it has its own event loop

    database = await open_database(sqlite_url(tmp_path / "jobs.sqlite"))
    jobs, _ = await JobStore(database, WorkSettings()).page(ANYONE, 10, None, newest_first=False)
    assert [Video.of(job).id for job in jobs] == ids
    assert {job.status for job in jobs} == {"completed"}
    await database.close()
