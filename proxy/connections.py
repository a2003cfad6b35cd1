"""Decides which connections are admitted, and which idle one is closed for a new one."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import Counter
from typing import Protocol

LOG_EVERY_S = 60.0
logger = logging.getLogger(__name__)


class Connection(Protocol):
    client_key: str  # as `client_of` names it

    def drop(self) -> None:
        """Close the connection now and discard unsent data."""
        ...


class Gate:
    """Admits at most ``limit`` connections, and ``limit_per_client`` of one client.

    When there are too many, it closes the connection that has waited the longest for the head of a
    request. It refuses a new connection only when no other one is idle.
    """

    def __init__(self, limit: int, limit_per_client: int):
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._clients: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}  # longest idle first
        self._full = RepeatedWarning("connections were refused or closed: too many are open")

    def admit(self, connection: Connection) -> bool:
        """Return whether the connection may be used. It counts until `leave`, idle at first."""
        client = connection.client_key
        if self._clients[client] >= self._limit_per_client:
            admitted = self._close_idle(client)
        else:
            admitted = self._clients.total() < self._limit or self._close_idle(None)
        if admitted:
            self._clients[client] += 1
            self.idle(connection)
        return admitted

    def idle(self, connection: Connection) -> None:
        self._idle.setdefault(connection)

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        self.busy(connection)
        self._clients[connection.client_key] -= 1
        if self._clients[connection.client_key] <= 0:
            del self._clients[connection.client_key]

    def _close_idle(self, client: str | None) -> bool:
        """Close the longest idle connection of ``client``, or of any client if None."""
        self._full.warn()
        oldest = next((other for other in self._idle if client in (None, other.client_key)), None)
        if oldest is None:
            return False
        self.busy(oldest)
        oldest.drop()
        return True


class RepeatedWarning:
    """A warning that may occur thousands of times a second; logs their number once a minute."""

    def __init__(self, text: str):
        self._text = text
        self._count = 0
        self._last = -LOG_EVERY_S

    def warn(self) -> None:
        self._count += 1
        if time.monotonic() - self._last >= LOG_EVERY_S:
            logger.warning("%d %s", self._count, self._text)
            self._count, self._last = 0, time.monotonic()


def client_of(address: str) -> str:
    """Return the name of the client at an IP address; for IPv6, that of its /64 network."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))
