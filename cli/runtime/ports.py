"""The three ports of an embedded server."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"

_LISTEN = "0A"  # TCP_LISTEN of linux/tcp_states.h


class Ports(NamedTuple):
    """TCP ports on the loopback interface."""

    http: int
    grpc: int
    metrics: int


def free_ports() -> Ports:
    """Three ports that were free a moment ago; another process may take one before the server does."""
    with ExitStack() as stack:
        # All three are held at once, so that they differ.
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in Ports._fields]
        return Ports(*(opened.getsockname()[1] for opened in sockets))


def listens(pid: int, ports: Ports) -> bool:
    """Whether the process itself listens on all of `ports`; False also if there is no such process."""
    sockets: set[str] = set()
    # A descriptor or the process itself may go away while it is looked at.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(str(descriptor.readlink()))
    return set(ports) <= {port for port, inode in _listeners() if f"socket:[{inode}]" in sockets}


def answers(ports: Ports) -> bool:
    """Whether some program takes connections at the port of gRPC."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, ports.grpc), timeout=1):
        return True
    return False


def _listeners() -> Iterator[tuple[int, str]]:
    # gRPC listens on an IPv6 socket for IPv4 addresses, too.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == _LISTEN:
                    yield int(local.rpartition(":")[2], 16), inode
