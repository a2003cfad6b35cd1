"""A thread that writes lines to standard error, even if that is a pipe that is not read."""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from contextlib import suppress
from typing import TextIO

POLL_MS = 100


class LineWriter(threading.Thread):
    """Writes the lines of a queue until it receives ``None``.

    A pipe is written only when it has space, and not through Python's buffer: a thread that blocks
    there holds a lock that the interpreter needs to exit.
    """

    def __init__(self, lines: queue.Queue[str | None]):
        super().__init__(name="log", daemon=True)
        self._lines = lines
        self._stream = sys.stderr
        self._descriptor = _descriptor(self._stream)
        self._abandoned = threading.Event()

    def run(self) -> None:
        while (line := self._lines.get()) is not None and not self._abandoned.is_set():
            if self._descriptor is None:
                self._stream.write(f"{line}\n")
            else:
                with suppress(OSError):  # the reader has closed the pipe, or the disk is full
                    self._write(self._descriptor, f"{line}\n".encode(errors="backslashreplace"))

    def finish(self, within_s: float) -> None:
        """Write the waiting lines for at most ``within_s`` seconds.

        If that fails, standard error is replaced, so that later writes to it never block.
        """
        with suppress(queue.Full):
            self._lines.put_nowait(None)
            self.join(within_s)
        self._abandoned.set()
        if not self.is_alive():
            return
        self.join(within_s)
        if self._descriptor is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._descriptor)
            os.close(null)

    def _write(self, descriptor: int, data: bytes) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while data and not self._abandoned.is_set():
            if poll.poll(POLL_MS):
                data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]


def _descriptor(stream: TextIO) -> int | None:
    """Return the stream's file descriptor; None for a stream in memory, as in tests."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
