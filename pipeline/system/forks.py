"""Start a module as a fork of the process `pipeline.system.fork_server`, which has imported torch.

Each fork has a connection to that process. The fork ends when its leader closes the connection or
ends, and when the fork server ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.system.child_environment import child_environment
from pipeline.system.starting import Process, Start, Turn, start_module

VARIABLE = "TRITON_VIDEO_FORKS"
"""Names the socket of the fork server to the stages of a Triton."""
REQUEST_S = 10.0
_LENGTH_BYTES = 4


def start_of(environment: Mapping[str, str]) -> Start:
    """Return how a process with this ``environment`` starts modules."""
    path = environment.get(VARIABLE)
    return forking(Path(path)) if path else start_module


def forking(server: Path) -> Start:
    """Return the `Start` that asks the fork server at the socket ``server``.

    It does not wait until the module runs. Raises ``OSError`` if no server answers.
    """
    return partial(_fork, server)


def _fork(
    server: Path,
    module: str,
    *arguments: str,
    fds: Sequence[int] = (),
    stdout: int = 2,
    stderr: int = 2,
    turn: Turn = "later",
) -> Process:
    request = {
        "module": module, "arguments": arguments, "turn": turn,
        "environment": child_environment(os.environ),
    }  # fmt: skip
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(REQUEST_S)
        connection.connect(str(server))
        send_request(connection, request, (stdout, stderr, *fds))
    except BaseException:
        connection.close()
        raise
    return Fork(connection)


def send_request(
    connection: socket.socket, request: Mapping[str, object], fds: Sequence[int]
) -> None:
    """Send a request with the descriptors ``fds``. Raises ``OSError``."""
    text = json.dumps(request).encode()
    socket.send_fds(connection, [len(text).to_bytes(_LENGTH_BYTES)], fds)
    connection.sendall(text)


def receive_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive what `send_request` sent. Raises ``EOFError`` if the other side closed, or
    ``OSError``.
    """
    length, fds, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, maxfds=16)
    text, size = b"", int.from_bytes(length)
    while len(text) < size and (received := connection.recv(size - len(text))):
        text += received
    if len(length) < _LENGTH_BYTES or len(text) < size:
        for fd in fds:
            os.close(fd)
        raise EOFError
    return json.loads(text), fds


class Fork:
    """A fork as its leader sees it, with the methods of `subprocess.Popen`.

    ``returncode`` is -9 too if the fork server ended before it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.returncode: int | None = None
        self._pid: int | None = None
        self._connection = connection
        self._received = b""

    @property
    def pid(self) -> int | None:
        """The process id; None until the fork server has started it."""
        self._read(0)
        return self._pid

    def poll(self) -> int | None:
        """Return the exit code, or the negative number of the signal; None while it runs."""
        self._read(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises ``TimeoutExpired`` after ``timeout`` seconds."""
        limit = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if limit is None else limit - time.monotonic()
            if timeout is not None and left is not None and left < 0:
                raise subprocess.TimeoutExpired(f"fork {self._pid}", timeout)
            self._read(left)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """Have the fork server kill it, even if it is stopped or has not been started."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(-signal.SIGKILL)  # that server has ended

    def _read(self, timeout: float | None) -> None:
        """Read the messages that arrive within ``timeout`` seconds."""
        if self.returncode is not None:
            return
        if not select.select([self._connection], [], [], timeout)[0]:
            return
        try:
            received = self._connection.recv(4096)
        except ConnectionResetError:
            received = b""
        *lines, self._received = (self._received + received).split(b"\n")
        for message in map(json.loads, lines):
            self._pid = message.get("pid", self._pid)
            if "exit" in message:
                self._end(message["exit"])
                return
        if not received:
            self._end(-signal.SIGKILL)

    def _end(self, code: int) -> None:
        self.returncode = code
        self._connection.close()
