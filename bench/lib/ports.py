"""TCP ports for servers that are started here."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack

# Below the ports that Linux gives to outgoing connections (ip_local_port_range), which would take
# a free port before its server is started.
FIRST, LAST = 20_000, 32_000


def free_ports(count: int) -> list[int]:
    """Different ports on 127.0.0.1, each free a moment ago; another process may take one."""
    with ExitStack() as stack:
        # All are held at once, so that they differ.
        return [_hold(stack) for _ in range(count)]


def _hold(stack: ExitStack) -> int:
    while True:
        port = random.randint(FIRST, LAST)
        try:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return port
