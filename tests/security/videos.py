"""The videos of a proxy that runs as a program, over HTTP and in its database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.e2e.program import KEY, Proxy
from tests.waiting import wait_for


class Api:
    """The videos of one proxy."""

    def __init__(self, proxy: Proxy, folder: Path):
        self._folder = folder
        headers = {"authorization": f"Bearer {KEY}"}
        self._http = httpx.Client(base_url=f"{proxy.url}/v1", headers=headers, timeout=30)

    def close(self) -> None:
        self._http.close()

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
