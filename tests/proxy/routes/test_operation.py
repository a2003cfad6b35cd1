"""Health, metrics, limits and headers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx2 as httpx

from tests.proxy.conftest import Api, Opener
from tests.waiting import async_wait_for


async def sample(api: Api, name: str) -> float:
    """Return the value of one sample of /metrics, 0 without it."""
    page = (await api.http.get("/metrics")).text
    match = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(match[1]) if match else 0.0


async def test_metrics_count_a_scripted_run(serve: Opener) -> None:
    async with serve() as api:
        made = [(await api.create())["id"] for _ in range(2)]
        for video_id in made:
            await api.wait(video_id)
        content = (await api.http.get(f"/v1/videos/{made[0]}/content")).content
        api.triton.gate.clear()
        running, waiting = (await api.create())["id"], (await api.create())["id"]
        await api.wait(running, "in_progress")
        assert await sample(api, 'triton_video_jobs{status="queued"}') == 1
        assert await sample(api, 'triton_video_jobs{status="in_progress"}') == 1
        await api.http.post(f"/v1/videos/{waiting}/cancel")
        assert await sample(api, 'triton_video_jobs_created_total{model="shapes"}') == 4
        ended = 'triton_video_jobs_finished_total{code="%s",model="shapes",status="%s"}'
        assert await sample(api, ended % ("", "completed")) == 2
        assert await sample(api, ended % ("cancelled", "failed")) == 1
        for stage in ("queue", "encode_text", "denoise", "decode", "encode"):
            assert await sample(api, f'triton_video_{stage}_seconds_count{{model="shapes"}}') == 2
        assert await sample(api, "triton_video_content_bytes_total") == len(content)
        assert await sample(api, 'triton_video_video_bytes_total{model="shapes"}') == 2 * len(
            content
        )
        assert await sample(api, 'triton_video_triton_up{triton="unused:1"}') == 1
        route = 'triton_video_http_seconds_count{method="POST",route="/v1/videos",status="200"}'
        assert await sample(api, route) == 4
        page = (await api.http.get("/metrics")).text
        assert not any(video_id in page for video_id in (*made, running, waiting)), (
            "no ids in labels"
        )


async def test_metrics_require_a_key(serve: Opener) -> None:
    async with serve() as api:
        assert (
            await api.http.get("/metrics", headers={"authorization": "Bearer wrong"})
        ).status_code == 401


async def test_readiness_follows_triton(serve: Opener) -> None:
    async with serve() as api:
        for path in ("/readyz", "/health"):
            assert (await api.http.get(path)).json() == {
                "status": "ok",
                "checks": {"triton": True, "database": True, "storage": True},
                "reasons": {},
            }
        api.triton.up = False

        async def unready() -> httpx.Response | None:
            answer = await api.http.get("/readyz")
            return answer if answer.status_code != 200 else None

        answer = await async_wait_for(unready, 5)
        assert answer.json()["checks"] == {"triton": False, "database": True, "storage": True}
        assert answer.json()["reasons"] == {"triton": "no Triton is healthy"}
        assert (await api.http.get("/livez")).status_code == 200


async def test_readiness_is_probed_by_a_write_at_most_once_a_second(
    serve: Opener, tmp_path: Path
) -> None:
    """/readyz needs no key, so that the disk must be protected from it."""
    async with serve() as api:
        before = await asyncio.to_thread(probes, tmp_path)
        begin = time.monotonic()
        answers = await asyncio.gather(*(api.http.get("/readyz") for _ in range(50)))
        took = time.monotonic() - begin
        assert {answer.status_code for answer in answers} == {200}
        assert 1 <= await asyncio.to_thread(probes, tmp_path) - before <= 1 + took
        assert not list((tmp_path / "data" / "videos").rglob("*")), "its files are removed"


def probes(folder: Path) -> int:
    """Return the number of probes written to the database."""
    with closing(sqlite3.connect(folder / "data" / "jobs.sqlite")) as connection:
        return connection.execute("SELECT writes FROM probe").fetchone()[0]


async def test_rate_limit_counts_per_key(serve: Opener) -> None:
    async with serve(requests_per_minute=2) as api:
        answers = [await api.http.post("/v1/videos", json={"prompt": "x"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == [
            "1",
            "0",
            "0",
        ]
        refused = answers[-1]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 50 <= int(refused.headers["retry-after"]) <= 60, "up to the end of the window"
        assert (await api.http.get("/v1/videos")).status_code == 200, "reads are not limited"
        other = await api.http.post(
            "/v1/videos", json={"prompt": "x"}, headers={"authorization": "Bearer key-b"}
        )
        assert other.status_code == 200, "another key has its own count"


async def test_cors_allows_named_origins_only(serve: Opener) -> None:
    page = {"origin": "https://page.example"}
    async with serve() as api:
        assert (
            "access-control-allow-origin"
            not in (await api.http.get("/v1/models", headers=page)).headers
        )
    async with serve(cors_origins=("https://page.example",)) as api:
        answer = await api.http.get("/v1/models", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        asked = {
            **page,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        assert (await api.http.options("/v1/videos", headers=asked)).status_code == 200
        other = await api.http.get("/v1/models", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_every_response_has_an_id_and_a_time(serve: Opener) -> None:
    async with serve() as api:
        for path in ("/livez", "/v1/videos", "/nowhere", "/v1/videos/video_none"):
            answer = await api.http.get(path)
            assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
            assert int(answer.headers["openai-processing-ms"]) >= 0


async def test_job_fails_after_the_queue_timeout(serve: Opener) -> None:
    """A job ends even if no Triton ever comes: `create_and_poll` has no timeout."""
    async with serve(worker=False, queue_timeout_s=1) as api:
        video_id = (await api.create())["id"]
        jobs = api.service.jobs
        await jobs.sweep()
        assert (await api.wait(video_id, "queued"))["status"] == "queued"
        jobs._clock = lambda: 2e9 * 2
        await jobs.sweep()
        assert (await api.wait(video_id))["error"]["code"] == "timeout"
