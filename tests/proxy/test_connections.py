"""The admission of connections, and the closing of idle ones."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys

import pytest

from proxy.connections import Gate, RepeatedWarning, client_of


class Fake:
    def __init__(self, gate: Gate, client: str, *, busy: bool = False):
        self.client_key = client
        self.dropped = False
        self._gate = gate
        self.admitted = gate.admit(self)
        if busy:
            gate.busy(self)

    def drop(self) -> None:
        self.dropped = True
        self._gate.leave(self)


def test_longest_idle_connection_is_closed_for_a_new_one() -> None:
    gate = Gate(3, 3)
    busy, one, two = Fake(gate, "a", busy=True), Fake(gate, "a"), Fake(gate, "b")
    gate.busy(one)
    gate.idle(one)  # idle again: two has been idle for longer now
    assert Fake(gate, "c").admitted
    assert [other.dropped for other in (busy, one, two)] == [False, False, True]
    assert Fake(gate, "c").admitted
    assert [other.dropped for other in (busy, one)] == [False, True]


def test_client_over_its_limit_loses_its_own_connection() -> None:
    gate = Gate(9, 2)
    other, one, two = Fake(gate, "b"), Fake(gate, "a"), Fake(gate, "a")
    assert Fake(gate, "a").admitted
    assert [fake.dropped for fake in (other, one, two)] == [False, True, False]


def test_connection_is_refused_if_no_other_is_idle() -> None:
    gate = Gate(2, 2)
    one, two = Fake(gate, "a", busy=True), Fake(gate, "b", busy=True)
    refused = [Fake(gate, "c"), Fake(gate, "a")]
    assert not any(fake.admitted for fake in refused)
    gate.leave(one)
    assert Fake(gate, "c").admitted
    assert not two.dropped


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_client_is_an_ipv4_address_or_an_ipv6_network(address: str, client: str) -> None:
    assert client_of(address) == client


def test_repeated_warning_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("proxy.connections.time.monotonic", lambda: now)
    repeated = RepeatedWarning("connections were refused")
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            repeated.warn()
        now += 61
        repeated.warn()
    assert caplog.messages == ["1 connections were refused", "500 connections were refused"]


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fit"), [(64, 64, 1024, 14), (64, 4096, 1024, 1024), (64, 64, 5, 5)]
)
def test_connections_are_limited_by_open_files(soft: int, hard: int, wanted: int, fit: int) -> None:
    """Runs in its own process: a lowered limit cannot be raised again."""
    program = (
        "from proxy.descriptors import *; raise_limit();"
        f"print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections_that_fit({wanted}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    limit, connections = map(int, answer.stdout.split())
    assert limit == hard
    assert fit - 3 <= connections <= fit
    assert ("limit of open files is 64 (ulimit -n)" in answer.stderr) == (fit == 14)
