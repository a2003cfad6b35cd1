"""The control channel to a running stage: cancels a request or reports which jobs run.

Triton does not forward a client's cancellation to the steps of an ensemble, so each stage listens
on a socket and the ``control`` model writes to all of them. The sockets are files in a private
folder, which `FOLDER_VARIABLE` names if triton-video starts the server. Under a stock tritonserver
they are in Linux's abstract namespace, in which any user may bind a name: both ends then check that
the other one runs as the same user. A connection carries one JSON object in each direction.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import CancelledError

MAX_MESSAGE_BYTES = 4096
MAX_ANSWER_BYTES = 1 << 20
MAX_REMEMBERED = 4096
TIMEOUT_S = 2.0
FOLDER_VARIABLE = "TRITON_VIDEO_CONTROL_FOLDER"


class JobRegistry:
    """The running and the cancelled jobs of one stage. Thread-safe.

    Cancellations are stored, because one may arrive while the job still waits in a queue before
    this stage. A cancelled id therefore cannot be reused: each id names one request, as a client's
    UUID does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, list[int]] = {}

    def cancel(self, job_id: str) -> list[int] | None:
        """Mark the job as cancelled; return its [step, total] if it runs in this stage now."""
        with self._lock:
            self._cancelled[job_id] = None
            while len(self._cancelled) > MAX_REMEMBERED:
                self._cancelled.popitem(last=False)
            return self._running.get(job_id)

    @contextlib.contextmanager
    def running(self, job_id: str):
        """Mark the job as running inside this block."""
        with self._lock:
            self._running[job_id] = [0, 0]
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(job_id, None)

    def advance(self, job_id: str, step: int, total: int) -> None:
        """Record the job's progress; raises ``CancelledError`` if it was cancelled."""
        with self._lock:
            if job_id in self._cancelled:
                raise CancelledError(f"job {job_id} was cancelled before step {step} of {total}")
            self._running[job_id] = [step, total]

    def status(self) -> dict[str, list[int]]:
        """Return the [step, total] of each running job by job id."""
        with self._lock:
            return {job: list(progress) for job, progress in self._running.items()}


class ControlListener:
    """Answers control messages for one stage on a separate thread, from construction until
    ``close``.
    """

    def __init__(self, address: str, registry: JobRegistry):
        """Listen on ``address``, as returned by `stage_address`. Raises ``OSError``."""
        self._registry = registry
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if not address.startswith("\0"):
            # The stage's last process may have left its socket. The folder is private, so no other
            # user's socket can be here.
            Path(address).unlink(missing_ok=True)
        self._socket.bind(address)
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(TIMEOUT_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            # RecursionError: thousands of nested brackets.
            with connection, contextlib.suppress(OSError, ValueError, RecursionError):
                connection.settimeout(TIMEOUT_S)
                if _is_own(connection):
                    answer = self._answer(json.loads(_receive(connection, MAX_MESSAGE_BYTES)))
                    connection.sendall(json.dumps(answer).encode())

    def _answer(self, message: Any) -> dict[str, Any]:
        match message:
            case {"action": "cancel", "job_id": str(job_id)}:
                return {"running": self._registry.cancel(job_id)}
            case {"action": "status"}:
                return {"jobs": self._registry.status()}
            case _:
                return {"error": "unknown message"}


def stage_address(stage: str, server_pid: int, environment: Mapping[str, str] = os.environ) -> str:
    """Return the socket address of a stage of the tritonserver with the process id
    ``server_pid``.
    """
    if folder := environment.get(FOLDER_VARIABLE):
        return str(Path(folder, stage))
    # Containers on the host's network share these names, and the server may have the same process
    # id in each.
    namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - what the link stands for, not where it leads
    return f"\0triton-video/{namespace}-{server_pid}/{stage}"


def send(address: str, message: dict[str, Any]) -> dict[str, Any]:
    """Send one message to the stage that listens at ``address`` and return its answer.

    Raises ``OSError``: ``ConnectionRefusedError`` or ``FileNotFoundError`` when no process listens,
    ``PermissionError`` when the listening process runs as another user, ``TimeoutError`` after two
    seconds without an answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(address)
        if not _is_own(connection):
            raise PermissionError("the process that listens for this stage runs as another user")
        connection.sendall(json.dumps(message).encode())
        connection.shutdown(socket.SHUT_WR)
        return json.loads(_receive(connection, MAX_ANSWER_BYTES))


def _receive(connection: socket.socket, limit: int) -> bytes:
    """Return all bytes that the other end sends until it closes its side.

    Raises ``ValueError`` for more than ``limit`` bytes.
    """
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
        if len(received) > limit:
            raise ValueError(f"a control message of more than {limit} bytes")
    return bytes(received)


def _is_own(connection: socket.socket) -> bool:
    """Return whether the process at the other end runs as this user."""
    _, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return uid == os.getuid()
