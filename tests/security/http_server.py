"""The HTTP server as a program, and raw connections to it: what an attacker has."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import psutil

KEY = "key-a"
HEADERS = {"authorization": f"Bearer {KEY}"}
ROOT = Path(__file__).resolve().parents[2]


class Attacked:
    """A running server: its address, its process, and what it wrote to standard error."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path):
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._connections: list[socket.socket] = []

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def memory_mib(self) -> float:
        """Resident memory of the process."""
        return self._status("VmRSS") / 1024

    def peak_mib(self) -> float:
        """The most resident memory that the process had so far."""
        return self._status("VmHWM") / 1024

    def descriptors(self) -> int:
        return len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def connections(self) -> int:
        """Connections that are open."""
        all_of_them = psutil.Process(self.process.pid).net_connections()
        return sum(connection.status == psutil.CONN_ESTABLISHED for connection in all_of_them)

    def connect(
        self, sent: bytes = b"", *, source: str = "127.0.0.1", receive_buffer: int = 0
    ) -> socket.socket:
        """A connection on which ``sent`` was written. It is closed in the end at the latest."""
        connection = socket.socket()
        self._connections.append(connection)
        connection.settimeout(10)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.port))
        if sent:
            connection.sendall(sent)
        return connection

    def close(self) -> None:
        """Close all connections."""
        while self._connections:
            self._connections.pop().close()

    def get(self, path: str, timeout_s: float = 5) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=HEADERS, timeout=timeout_s)

    def answers(self, within_s: float = 5) -> bool:
        """Whether a new client gets an answer in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                return self.get("/livez", timeout_s=within_s).status_code == httpx.codes.OK
            except httpx.TransportError:
                time.sleep(0.05)
        return False

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextmanager
def attacked(
    folder: Path,
    *flags: str,
    descriptors: int | None = None,
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> Iterator[Attacked]:
    """A server that is ready; ``descriptors`` is its limit of open files, soft and hard."""
    port, log = _free_port(), folder / "log"
    command = [
        sys.executable,
        "-m",
        "tests.security.http_program",
        "--triton-url",
        "unused:1",
        "--port",
        str(port),
    ]

    def limit() -> None:
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--data-path", str(folder / "data"), *flags],
            env={**os.environ, **(environment or {}), "TRITON_VIDEO_API_KEYS": f"{KEY},key-b"},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file if stderr is None else stderr,
            preexec_fn=limit,
        )
    server = Attacked(process, port, log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        server.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def head(method: str, path: str, *lines: str, key: str | None = KEY) -> bytes:
    """The head of a request; with ``key`` it is let in."""
    authorization = [] if key is None else [f"authorization: Bearer {key}"]
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "host: x", *authorization, *lines, "", ""]
    ).encode()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer with a length; status 0 where there is none."""
    try:
        with connection.makefile("rb") as file:
            status = int((file.readline().split() or [b"", b"0"])[1])
            headers = {}
            while (line := file.readline().strip()) and b":" in line:
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            return status, headers, file.read(int(headers.get("content-length", 0)))
    except ConnectionError:
        return 0, {}, b""


def error_code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


def closed_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the server ends the connection in time; what it sends before that is read."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(server: Attacked) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log
        try:
            if server.get("/readyz", timeout_s=10).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server is not ready:\n{server.log[-2000:]}")
