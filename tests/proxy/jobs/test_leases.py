"""Which workers count as gone, by a clock that the test moves."""

from __future__ import annotations

from proxy.jobs.leases import Heartbeat, Leases

LEASE_S = 30.0
FIRST, OTHER = Heartbeat(1, "token", 0), Heartbeat(2, "token", 0)


def leases() -> tuple[Leases, list[float]]:
    now = [100.0]
    return Leases(LEASE_S, lambda: now[0]), now


def test_lease_ends_only_after_its_whole_time() -> None:
    watcher, now = leases()
    watcher.observe([FIRST], outages=0)
    now[0] += LEASE_S
    assert watcher.expired() == []
    now[0] += 0.1
    assert watcher.expired() == [FIRST]


def test_time_counts_from_the_first_look_at_a_sign() -> None:
    watcher, now = leases()
    watcher.observe([FIRST], outages=0)
    now[0] += 20
    watcher.observe([FIRST, OTHER], outages=0)
    now[0] += 11
    watcher.observe([FIRST, OTHER], outages=0)
    assert watcher.expired() == [FIRST]


def test_new_sign_begins_the_lease_anew() -> None:
    watcher, now = leases()
    watcher.observe([FIRST], outages=0)
    now[0] += 29
    watcher.observe([FIRST._replace(beats=1)], outages=0)
    now[0] += 29
    assert watcher.expired() == []


def test_finished_job_is_forgotten() -> None:
    watcher, now = leases()
    watcher.observe([FIRST], outages=0)
    watcher.observe([], outages=0)
    now[0] += 100
    assert watcher.expired() == []


def test_outage_of_the_database_begins_every_lease_anew_once() -> None:
    watcher, now = leases()
    watcher.observe([FIRST], outages=0)
    now[0] += 31
    watcher.observe([FIRST], outages=1)
    assert watcher.expired() == []
    now[0] += 20
    watcher.observe([FIRST], outages=1)
    now[0] += 11
    assert watcher.expired() == [FIRST]
