"""The readiness that ``/readyz`` reports. Probes write, since reads work on a full disk too."""

from __future__ import annotations

import asyncio
import time

from proxy.jobs.store import JobStore
from proxy.schema import Health
from proxy.tritons import Tritons
from proxy.video_store import VideoStore

MAX_AGE_S = 1.0  # /readyz needs no key, and each probe waits for the disk


class Readiness:
    """Checks Triton, the database and the store; probes the disk at most once a second."""

    def __init__(self, jobs: JobStore, store: VideoStore, tritons: Tritons):
        self._jobs, self._store, self._tritons = jobs, store, tritons
        self._lock = asyncio.Lock()
        self._probed: float | None = None
        self._reasons: dict[str, str] = {}

    async def health(self) -> Health:
        """Return what is ready, and the reasons of what is not, without paths or addresses."""
        async with self._lock:
            if self._probed is None or time.monotonic() - self._probed > MAX_AGE_S:
                self._reasons = await self._probe()
                self._probed = time.monotonic()
        reasons = dict(self._reasons)
        if problem := self._tritons.problem:
            reasons["triton"] = problem
        checks = {name: name not in reasons for name in ("triton", "database", "storage")}
        return Health(status="unavailable" if reasons else "ok", checks=checks, reasons=reasons)

    async def _probe(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        if problem := await self._jobs.problem():
            reasons["database"] = problem
        if self._jobs.short_of_space:
            reasons["storage"] = "its disk is almost full: new videos are refused"
        elif problem := await self._store.problem():
            reasons["storage"] = problem
        return reasons
