"""The thread of the HTTP server, with a signal while the server starts."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import cast

import pytest

from cli.interrupts import Interrupted, interruptible
from cli.run.http_thread import HttpThread
from proxy.server import Server


class StartingServer:
    """Starts for ever, or until it is told to end."""

    def __init__(self) -> None:
        self.started = self.should_exit = False
        self.running = threading.Event()

    def run(self, sockets: list[socket.socket]) -> None:
        self.running.set()
        deadline = time.monotonic() + 10
        while not self.should_exit and time.monotonic() < deadline:
            time.sleep(0.01)


def serve(server: StartingServer) -> None:
    def interrupt() -> None:
        server.running.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with socket.socket() as sock, HttpThread(cast("Server", server), sock):
        pytest.fail("the server does not answer yet")


def test_a_signal_while_the_server_starts_ends_its_thread() -> None:
    server = StartingServer()
    with pytest.raises(Interrupted), interruptible():
        serve(server)
    assert server.should_exit
    assert "http" not in [thread.name for thread in threading.enumerate()]
