"""The owner's side of the keeper: starts it, reads its reports, and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from cli.runtime import keeper
from pipeline.errors import ServerError


class KeptProcess:
    """A server under a keeper. It ends with `stop`, or with this process, even if that is killed.

    For one thread at a time.
    """

    def __init__(self, launch: keeper.Launch):
        """Start the keeper, without waiting; `wait` sets ``pid`` and ``exit_code``."""
        self.pid: int | None = None
        self.exit_code: int | None = None
        self._launch = launch
        self._buffer = b""
        self.closed = False
        """Whether the keeper has ended."""
        self._channel, theirs = socket.socketpair()
        output = subprocess.DEVNULL if launch.log else None
        with theirs:
            # A separate session: Ctrl-C in the terminal is for the command line, which then stops
            # the server.
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd="/", start_new_session=True,
            )  # fmt: skip
        self._order(json.dumps(vars(launch)))

    @property
    def ended(self) -> bool:
        """Whether the server, or its keeper, is known to have ended."""
        return self.exit_code is not None or self.closed

    def wait(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` for a report, and read it.

        Raises ServerError if the server could not be run.
        """
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if self.closed or not poll.poll(timeout_s * 1000):
            return
        try:
            received = self._channel.recv(4096)
        except ConnectionResetError:
            received = b""
        self.closed = not received
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for message in map(json.loads, lines):
            if "pid" in message:
                self.pid, self.exit_code = message["pid"], None
            self.exit_code = message.get("exit", self.exit_code)
            if "error" in message:
                raise ServerError(f"tritonserver could not be run: {message['error']}")

    def again(self) -> None:
        """Kill the server, in any state, and restart it in the same folder."""
        self.pid = self.exit_code = None
        self._order("again")

    def _order(self, line: str) -> None:
        # `wait` notices a keeper that has ended.
        with contextlib.suppress(BrokenPipeError):
            self._channel.sendall(line.encode() + b"\n")

    def stop(self, timeout_s: float = 3) -> None:
        """Stop the server and wait until nothing is left, at most ``timeout_s``.

        After that the keeper cleans up alone.
        """
        deadline = time.monotonic() + timeout_s
        with self._channel, contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            while not self.closed and time.monotonic() < deadline:
                with contextlib.suppress(ServerError):
                    self.wait(deadline - time.monotonic())
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._keeper.wait(max(0, deadline - time.monotonic())) != 0:
                self._clean_up_for_dead_keeper()

    def _clean_up_for_dead_keeper(self) -> None:
        # tritonserver has died with its keeper, but its stubs would live for another second.
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        keeper.remove_container(self._launch)
        keeper.remove_shared_memory(self._launch)
        keeper.remove_files(self._launch)
