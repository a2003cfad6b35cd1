"""Which workers are gone, told without a clock that anybody sets.

A worker that lives changes its row every half second. Who wants to take a job over watches the row:
when it stayed the same for the length of a lease, by the watcher's own monotonic clock, its worker
is gone. So it does not matter what the time of day is, on this host or on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Heartbeat(NamedTuple):
    """A sign of life: never the same twice."""

    number: int
    token: str
    beats: int


class Leases:
    """What this process has seen of the jobs that run."""

    def __init__(self, lease_s: float, clock: Callable[[], float]):
        self._lease_s = lease_s
        self._clock = clock
        self._since: dict[Heartbeat, float] = {}
        self._outages = 0

    def observe(self, signs: Iterable[Heartbeat], outages: int) -> None:
        """Take in the newest sign of every job that runs.

        While the database did not answer nobody could give one, so what was seen before an outage
        counts no more.
        """
        now = self._clock()
        before = self._since if outages == self._outages else {}
        self._outages = outages
        self._since = {sign: before.get(sign, now) for sign in signs}

    def expired(self) -> list[Heartbeat]:
        """Signs that were the newest for longer than a lease."""
        now = self._clock()
        return [sign for sign, since in self._since.items() if now - since > self._lease_s]
