"""The videos of a proxy that runs as a program, over HTTP and in its database."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

from pipeline.families import SamplingParams
from tests.e2e.program import KEY, Proxy
from tests.waiting import wait_for

HANG_S = 2
LONG: dict[str, Any] = {"prompt": "x", "num_inference_steps": 200, "num_frames": 49}
DECODED: dict[str, Any] = {
    "prompt": "x",
    "num_inference_steps": 1,
    "num_frames": 161,
    "size": "128x128",
}
SLOW = {**DECODED, "size": "384x384"}
DECODED_BY_TRITON = SamplingParams(
    prompt="x", num_inference_steps=1, num_frames=161, width=128, height=128
)
SHORT: dict[str, Any] = {"prompt": "x", "num_inference_steps": 2}


class Api:
    """The videos of one proxy."""

    def __init__(self, proxy: Proxy, folder: Path):
        self._folder = folder
        headers = {"authorization": f"Bearer {KEY}"}
        self._http = httpx.Client(base_url=f"{proxy.url}/v1", headers=headers, timeout=30)

    def close(self) -> None:
        self._http.close()

    def seconds(self, body: dict[str, Any]) -> float:
        """Return how long a video takes, which must complete."""
        began = time.monotonic()
        assert self.ended(self.create(body))["status"] == "completed"
        return time.monotonic() - began

    def create(self, body: dict[str, Any]) -> str:
        answer = self._http.post("/videos", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def get(self, video_id: str) -> dict[str, Any]:
        return self._http.get(f"/videos/{video_id}").json()

    def cancel(self, video_id: str) -> int:
        return self._http.post(f"/videos/{video_id}/cancel").status_code

    def attempts(self, video_id: str) -> int:
        with contextlib.closing(sqlite3.connect(next(self._folder.glob("*.sqlite")))) as database:
            return database.execute(
                "SELECT attempts FROM videos WHERE id = ?", [video_id]
            ).fetchone()[0]

    def ended(self, video_id: str) -> dict[str, Any]:
        wait_for(lambda: self.get(video_id)["status"] in ("completed", "failed"))
        return self.get(video_id)
