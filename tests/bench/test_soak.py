"""What the soak benchmark counts as lost, as growth and as left over."""

from __future__ import annotations

import subprocess
import sys

import httpx2 as httpx
import psutil
import pytest

from bench.lib.soak.ledger import Fate, Ledger
from bench.lib.soak.watch import Watch, slope_per_minute

CANCELLED = {"status": "failed", "error": {"code": "cancelled"}}
FAILED = {"status": "failed", "error": {"code": "backend_error"}}
DONE = {"status": "completed", "error": None}


@pytest.mark.parametrize(
    ("fate", "video", "lost"),
    [
        ("kept", DONE, False),
        ("kept", None, True),
        ("kept", FAILED, True),
        ("kept", {"status": "queued", "error": None}, True),
        ("cancelled", CANCELLED, False),
        ("cancelled", DONE, False),
        ("cancelled", FAILED, True),
        ("deleted", None, False),
        ("deleted", DONE, True),
    ],
)
async def test_video_counts_as_lost_unless_it_ends_as_its_client_asked(
    fate: Fate, video: dict | None, lost: bool
) -> None:
    data = [{"id": "video_1", **video}] if video else []
    page = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"data": data, "has_more": False})
    )

    async with httpx.AsyncClient(transport=page, base_url="http://test") as client:
        assert await Ledger({"video_1": fate}).lost(client) == (["video_1"] if lost else [])


def test_unexpected_status_is_recorded() -> None:
    ledger = Ledger()
    assert ledger.note("create", httpx.Response(200), 200)
    assert not ledger.note("create", httpx.Response(429), 200)
    assert not ledger.note("cancel", httpx.Response(400), 200, 400)
    assert ledger.surprises == []
    ledger.note("create", httpx.Response(503), 200)
    assert ledger.surprises == ["create: 503"]


def test_growth_is_measured_after_the_warm_up() -> None:
    flat = [(float(second), 50.0 if second < 60 else 100.0) for second in range(240)]
    assert slope_per_minute(flat) == pytest.approx(0)
    growing = [(float(second), 100 + second / 30) for second in range(240)]
    assert slope_per_minute(growing) == pytest.approx(2)


def test_a_process_that_outlives_its_server_is_found() -> None:
    watch = Watch(psutil.Process())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        watch.sample(0)
        assert str(child.pid) in watch.left_processes()
    assert str(child.pid) not in watch.left_processes()
