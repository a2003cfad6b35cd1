"""Triton's own metrics, as a test reads them from the socket of a server that it started."""

from __future__ import annotations

import httpx2 as httpx

from cli.runtime.kept_server import KeptServer


def metrics_of(server: KeptServer) -> str:
    """The page in Prometheus's text format."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.sockets.metrics))) as client:
        return client.get("http://triton/metrics").raise_for_status().text
