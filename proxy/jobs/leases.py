"""Detects lost workers without comparing clocks of different hosts.

A living worker changes its row every half second. A process that may take the job over watches the
row: if it stays the same for the length of a lease, by the watcher's own monotonic clock, the
worker is lost. The time of day on any host does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Heartbeat(NamedTuple):
    """A sign of life of a worker; each is unique."""

    number: int
    token: str
    beats: int


class Leases:
    """The heartbeats of running jobs, as this process has seen them."""

    def __init__(self, lease_s: float, clock: Callable[[], float]):
        self._lease_s = lease_s
        self._clock = clock
        self._since: dict[Heartbeat, float] = {}
        self._outages = 0

    def observe(self, signs: Iterable[Heartbeat], outages: int) -> None:
        """Record the newest heartbeat of every running job.

        During an outage of the database no worker can send one, so an outage restarts all leases.
        """
        now = self._clock()
        before = self._since if outages == self._outages else {}
        self._outages = outages
        self._since = {sign: before.get(sign, now) for sign in signs}

    def expired(self) -> list[Heartbeat]:
        """Return heartbeats that have been the newest for longer than a lease."""
        now = self._clock()
        return [sign for sign, since in self._since.items() if now - since > self._lease_s]
