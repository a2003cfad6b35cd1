"""TCP ports for servers that are started here."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Different ports on 127.0.0.1, each free a moment ago; another process may take one."""
    with ExitStack() as stack:
        # All are held at once, so that they differ.
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [opened.getsockname()[1] for opened in sockets]
