"""The HTTP server in a thread, so that it answers while this process starts Triton."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from pipeline.errors import ServerError
from proxy.server import Server

POLL_S = 0.02


class HttpThread:
    """Runs ``server`` on ``sock`` in a thread while the block runs.

    The block begins when it answers, and ends when open responses are sent. Signals stay with the
    main thread. Entry and `wait` raise ``ServerError`` when the server ends by itself.
    """

    def __init__(self, server: Server, sock: socket.socket):
        self._server, self._sock = server, sock
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="http")

    def __enter__(self) -> Self:
        try:
            self._thread.start()
            while not self._server.started:
                if self._ended.wait(POLL_S):
                    raise self._reason()
        except BaseException:  # also a signal; `__exit__` is not called then
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def wait(self) -> None:
        """Wait for a signal, which interrupts it, or for the end of the server."""
        self._ended.wait()
        raise self._reason()

    def _stop(self) -> None:
        self._server.should_exit = True
        # A thread that did not begin yet ends by itself.
        if self._thread.is_alive():
            # Not Thread.join: Python 3.11 takes a thread for ended when a signal interrupts it.
            self._ended.wait()

    def _run(self) -> None:
        try:
            self._server.run([self._sock])
        except BaseException as error:  # noqa: BLE001 - reported in the main thread
            self._error = error
        finally:
            self._ended.set()

    def _reason(self) -> ServerError:
        error = ServerError("the HTTP server ended; its log has the reason")
        error.__cause__ = self._error
        return error
