"""Where a tritonserver listens: on unix sockets in a private folder, or on TCP ports."""

from __future__ import annotations

import contextlib
import secrets
import socket
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

HOST = "127.0.0.1"
RESTRICTED = ("model-repository", "shared-memory", "logging", "trace")
_CONNECT_S = 1.0
_NUMBER = 1  # Triton appends ":NUMBER" to the name of a gRPC socket


@dataclass(frozen=True)
class Sockets:
    """Unix sockets in ``folder``, which only its owner may enter. Nothing listens on TCP.

    Only the owner can connect, so model control stays on: a dead stage can be reloaded. HTTP is off
    because no client needs it.
    """

    folder: Path

    @property
    def grpc_url(self) -> str:
        """The target for a gRPC client: ``unix:PATH``."""
        return f"unix:{self._grpc}"

    @property
    def metrics(self) -> Path:
        """The socket that answers ``GET /metrics`` over HTTP."""
        return self.folder / "metrics"

    def options(self) -> dict[str, object]:
        """Return the command-line options of tritonserver, by name."""
        return {
            "model-control-mode": "explicit",
            "load-model": "*",
            "allow-http": "false",
            "grpc-address": f"unix:{self.folder / 'grpc'}",
            "grpc-port": _NUMBER,
            "metrics-address": f"unix:{self.metrics}",
            "metrics-port": _NUMBER,
        }

    def answer(self) -> bool:
        """Return whether a process accepts connections on both sockets."""
        return all(_accepts(path) for path in (self._grpc, self.metrics))

    def clear(self) -> None:
        """Remove the sockets of a server that is to be replaced: the next one refuses to reuse
        them.
        """
        for path in (self._grpc, self.metrics):
            path.unlink(missing_ok=True)

    @property
    def _grpc(self) -> Path:
        return self.folder / f"grpc:{_NUMBER}"


@dataclass(frozen=True)
class Ports:
    """TCP ports at one address, open to every process that can reach it.

    Models can be neither loaded nor unloaded. The APIs in `RESTRICTED` require a header whose value
    is random for each start and not stored.
    """

    http: int
    grpc: int
    metrics: int
    host: str = HOST

    def options(self) -> dict[str, object]:
        """Return the command-line options of tritonserver, by name."""
        restricted = f"{','.join(RESTRICTED)}:triton-video={secrets.token_urlsafe(32)}"
        return {
            "model-control-mode": "none",
            "http-restricted-api": restricted,
            "grpc-restricted-protocol": restricted,
            "http-address": self.host,
            "http-port": self.http,
            "grpc-address": self.host,
            "grpc-port": self.grpc,
            "metrics-address": self.host,
            "metrics-port": self.metrics,
        }

    def answer(self) -> bool:
        """Return whether the server answers over HTTP that it is live."""
        loopback = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - compared only
        host = loopback.get(self.host, self.host)
        connection = HTTPConnection(host, self.http, timeout=_CONNECT_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status == HTTPStatus.OK
        return False


Endpoint = Sockets | Ports


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(_CONNECT_S)
        client.connect(str(path))
        return True
    return False
