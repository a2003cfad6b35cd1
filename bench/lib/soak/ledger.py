"""What clients were promised, and whether it was kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import httpx2 as httpx

Fate = Literal["kept", "cancelled", "deleted"]
DONE = ("completed", "failed")


@dataclass
class Ledger:
    """Every video that the server accepted, with what its client did to it last, and every
    answer.
    """

    fates: dict[str, Fate] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    def note(self, what: str, answer: httpx.Response, *expected: int) -> bool:
        """Count an answer, and remember it where it is none of ``expected``; returns whether it is
        the first of them.

        A full queue is an answer that any client must expect.
        """
        self.answers[f"{what} {answer.status_code}"] += 1
        if answer.status_code not in (*expected, httpx.codes.TOO_MANY_REQUESTS):
            self.surprises.append(f"{what}: {answer.status_code}")
        return answer.status_code == expected[0]

    async def unfinished(self, client: httpx.AsyncClient) -> int:
        """Videos that are still queued or in progress, also such whose client never learned
        their id.
        """
        return sum(video["status"] not in DONE for video in await listed(client))

    async def lost(self, client: httpx.AsyncClient) -> list[str]:
        """Accepted videos that ended otherwise than their client made them end."""
        found = {video["id"]: video for video in await listed(client)}
        return [
            video_id
            for video_id, fate in self.fates.items()
            if not _is_right(fate, found.get(video_id))
        ]


def _is_right(fate: Fate, video: dict | None) -> bool:
    if fate == "deleted":
        return video is None
    if video is None:
        return False
    cancelled = video["status"] == "failed" and video["error"]["code"] == "cancelled"
    # A cancellation may come too late, and is answered with an error then.
    return video["status"] == "completed" or (fate == "cancelled" and cancelled)


async def listed(client: httpx.AsyncClient) -> list[dict]:
    """Every video, page by page."""
    found: list[dict] = []
    while True:
        after = {"after": found[-1]["id"]} if found else {}
        answer = await client.get("/v1/videos", params={"limit": 100, **after})
        page = answer.raise_for_status().json()
        found += page["data"]
        if not page["has_more"]:
            return found
