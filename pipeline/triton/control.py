"""The side channel that reaches a running stage: cancel a request, ask what runs.

Triton tells a step of an ensemble nothing of its client's cancellation, so each stage listens on a
socket and the ``control`` model writes to all of them. The sockets are files in a private folder,
which `FOLDER_VARIABLE` names where triton-video starts the server. Under a stock tritonserver they
are in Linux's abstract namespace, which any user may bind: both ends then check that the other one
runs as the same user. Messages are one JSON object per connection and direction.
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
    """The jobs of one stage: which one runs and which were cancelled. Thread-safe.

    A cancellation is remembered, as it may come while the job still waits in a queue before this
    stage. So an id that was cancelled is spent: ids name one request each, as a client's UUIDs do.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, list[int]] = {}

    def cancel(self, job_id: str) -> list[int] | None:
        """Mark the job cancelled; returns its [step, total] if it runs here now."""
        with self._lock:
            self._cancelled[job_id] = None
            while len(self._cancelled) > MAX_REMEMBERED:
                self._cancelled.popitem(last=False)
            return self._running.get(job_id)

    @contextlib.contextmanager
    def running(self, job_id: str):
        """The job runs inside this block."""
        with self._lock:
            self._running[job_id] = [0, 0]
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(job_id, None)

    def advance(self, job_id: str, step: int, total: int) -> None:
        """Note the job's progress; raises ``CancelledError`` when it was cancelled."""
        with self._lock:
            if job_id in self._cancelled:
                raise CancelledError(f"job {job_id} was cancelled before step {step} of {total}")
            self._running[job_id] = [step, total]

    def status(self) -> dict[str, list[int]]:
        """Running job id -> [step, total]."""
        with self._lock:
            return {job: list(progress) for job, progress in self._running.items()}


class ControlListener:
    """Answers control messages for one stage on its own thread, from construction until
    ``close``.
    """

    def __init__(self, address: str, registry: JobRegistry):
        """``address`` is what `stage_address` returns for the stage. Raises ``OSError``."""
        self._registry = registry
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if not address.startswith("\0"):
            # What the stage's last process left. The folder is private, so it is no one else's.
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
    """The socket of a stage of the tritonserver with the process id ``server_pid``."""
    if folder := environment.get(FOLDER_VARIABLE):
        return str(Path(folder, stage))
    # Containers on the host's network share these names, and the server may have the same process
    # id in each.
    namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - what the link stands for, not where it leads
    return f"\0triton-video/{namespace}-{server_pid}/{stage}"


def send(address: str, message: dict[str, Any]) -> dict[str, Any]:
    """Send one message to the stage that listens at ``address`` and return its answer.

    Raises ``OSError``: ``ConnectionRefusedError`` or ``FileNotFoundError`` when no process listens,
    ``PermissionError`` when another user's does, ``TimeoutError`` after two seconds without an
    answer.
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
    """All that the other end sends until it closes its side; raises ``ValueError`` past
    ``limit`` bytes.
    """
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
        if len(received) > limit:
            raise ValueError(f"a control message of more than {limit} bytes")
    return bytes(received)


def _is_own(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as this user."""
    _, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return uid == os.getuid()
