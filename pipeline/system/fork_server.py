"""Imports modules once and forks processes that need them: ``python -m pipeline.system.fork_server
SOCKET MODULE...``.

A ``MODULE`` is a module's name, or with ``:NAME`` one that its package imports when it is asked
for NAME. Importing torch and diffusers takes seconds of CPU time in each process, and a fork of
this one has them at once. Nothing is initialised before a fork: no CUDA, no threads of OpenMP.

A leader connects to SOCKET and sends a request (`pipeline.system.forks`). This process answers
with lines of JSON: {"pid": n} once the fork runs and {"exit": code} when it has ended, then it
closes the connection. The socket's folder must be private: a process that connects can run
any code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.system.forks import REQUEST_S, receive_request
from pipeline.system.parent import end_with


@dataclass(frozen=True)
class _Request:
    connection: socket.socket
    module: str
    arguments: list[str]
    turn: str
    environment: dict[str, str]
    fds: list[int]


class _Server:
    """One process, one thread, one loop."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{path}.new")
        self._listener.listen()
        Path(f"{path}.new").rename(path)  # it answers once it exists
        self._wakeups, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._waiting: list[_Request] = []
        self._children: dict[int, socket.socket] = {}
        self._check: int | None = None

    def run(self, modules: Sequence[str]) -> None:
        """Import the modules, then serve until this process is killed or a check fails."""
        for module in modules:
            name, _, attribute = module.partition(":")
            imported = importlib.import_module(name)
            if attribute:
                getattr(imported, attribute)
            self._look(0, imported=False)
        # Forks share the memory of what is imported, as long as no collection writes to it.
        gc.freeze()
        while True:
            self._look(None, imported=True)

    def _look(self, timeout: float | None, *, imported: bool) -> None:
        """Handle what happens within ``timeout`` seconds, and all requests whose turn it is."""
        while True:
            if self._serve(imported=imported):
                timeout = 0
            leaders = [*self._children.values(), *(each.connection for each in self._waiting)]
            ready, _, _ = select.select([self._listener, self._wakeups, *leaders], [], [], timeout)
            if not ready:
                return
            if self._listener in ready:
                self._accept()
            if self._wakeups in ready:
                self._wakeups.recv(4096)
            for leader in leaders:
                if leader in ready:
                    self._leave(leader)
            self._reap()
            timeout = 0

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(REQUEST_S)
        try:
            request, fds = receive_request(connection)
        except (EOFError, OSError):
            connection.close()
            return
        self._waiting.append(_Request(connection, fds=fds, **request))

    def _serve(self, *, imported: bool) -> bool:
        """Fork for the requests whose turn it is; return whether there was one."""
        served = False
        for request in list(self._waiting):
            if request.turn == "first" or (imported and self._check is None):
                self._waiting.remove(request)
                self._fork(request)
                served = True
        return served

    def _fork(self, request: _Request) -> None:
        server = os.getpid()
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            others = [*self._children.values(), *(each.connection for each in self._waiting)]
            for each in (self._listener, self._wakeups, self._waker, *others):
                each.close()
            _become(request, server)
        for fd in request.fds:
            os.close(fd)
        if request.turn == "check":
            self._check = pid
        self._children[pid] = request.connection
        _tell(request.connection, {"pid": pid})

    def _leave(self, connection: socket.socket) -> None:
        """Kill the fork of a leader that has closed ``connection``, or forget its request."""
        for pid, other in self._children.items():
            if other is connection:
                os.kill(pid, signal.SIGKILL)  # not reaped yet: the id is still its own
        for request in list(self._waiting):
            if request.connection is connection:
                self._waiting.remove(request)
                for fd in request.fds:
                    os.close(fd)
                connection.close()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            connection = self._children.pop(pid)
            _tell(connection, {"exit": code})
            connection.close()
            if pid == self._check:
                self._check = None
                if code:
                    sys.exit("a check has failed: nothing else may start")


def _tell(connection: socket.socket, message: dict[str, int]) -> None:
    # A leader that has ended is noticed at the end of its stream.
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def _become(request: _Request, server: int) -> None:
    """In the fork: run the module as a new interpreter would, and end."""
    end_with(server)
    stdout, stderr, *fds = request.fds
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for fd in {stdout, stderr}:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request.environment)
    tempfile.tempdir = None  # chosen by the variables
    sys.argv = [request.module, *map(str, fds), *request.arguments, str(server)]
    code = 1
    try:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if request.turn == "first":
        # The server may be in the middle of an import, and would report the end late.
        _tell(request.connection, {"exit": code})
    os._exit(code)


if __name__ == "__main__":
    _Server(sys.argv[1]).run(sys.argv[2:])
