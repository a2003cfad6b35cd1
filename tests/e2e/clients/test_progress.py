"""What a client sees of one job that waits for another, from its creation to its end."""

from __future__ import annotations

import time
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e.clients.conftest import EXAMPLE_KEY
from tests.e2e.program import Proxy

RANK = {"queued": 0, "in_progress": 1, "completed": 2}


@pytest.fixture
def seen(proxy: Proxy) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All states of two jobs of one key, the first and the second, until both are done."""
    headers, states = {"authorization": f"Bearer {EXAMPLE_KEY}"}, []
    with httpx.Client(base_url=f"{proxy.url}/v1", headers=headers) as http:
        # The first takes long enough for some of the worker's reports, even on a fast machine.
        bodies = [{"prompt": "x", "num_frames": 17, "num_inference_steps": 120}, {"prompt": "x"}]
        ids = [http.post("/videos", json=body).json()["id"] for body in bodies]
        while not states or states[-1][1]["status"] not in ("completed", "failed"):
            # The second first: what it tells was so no later than what the first tells.
            second, first = (http.get(f"/videos/{video_id}").json() for video_id in reversed(ids))
            states.append((first, second))
            time.sleep(0.02)
    return states


def test_status_and_progress_never_decrease(
    seen: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    for job in (0, 1):
        states = [pair[job] for pair in seen]
        ranks, progress = (
            [RANK[state["status"]] for state in states],
            [state["progress"] for state in states],
        )
        assert (ranks, progress) == (sorted(ranks), sorted(progress))
        assert ranks[-1] == RANK["completed"]
        for state in states:
            assert type(state["progress"]) is int
            assert (state["progress"] == 100) == (state["status"] == "completed")
            assert state["status"] != "queued" or state["progress"] == 0
    assert any(0 < first["progress"] < 100 for first, _ in seen), "it is told while it is made"
    # The second begins when the device is free, while the first one's file is stored. A report of
    # less than 99 % says that the first one was on the device then, and so in all earlier states.
    reports = [first["progress"] for first, _ in seen if 0 < first["progress"] < 99]
    assert reports
    before = [first["progress"] for first, _ in seen].index(reports[-1])
    assert before > 0
    assert all(second["status"] == "queued" for _, second in seen[:before]), (
        "it waits while the first one is made"
    )
