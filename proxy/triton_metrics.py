"""The metrics of the Triton that ``serve`` started, which it serves on a unix socket only."""

from __future__ import annotations

from pathlib import Path

import httpx2 as httpx

from proxy.errors import ApiError

ANSWER_TIMEOUT_S = 5.0


class TritonMetrics:
    """Fetches Triton's metrics from ``socket``; None if this server started no Triton."""

    def __init__(self, socket: Path | None):
        self._socket = socket

    async def page(self) -> bytes:
        """Return the metrics in Prometheus's text format.

        Raises ``ApiError``: 404 without a socket, 503 while Triton does not answer there.
        """
        if self._socket is None:
            raise ApiError(
                404,
                "This server did not start its Triton; scrape the metrics port of that Triton.",
                code="not_found",
            )
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=ANSWER_TIMEOUT_S) as client:
                answer = await client.get("http://triton/metrics")
                answer.raise_for_status()
        except httpx.HTTPError:
            raise ApiError(
                503,
                "Triton does not answer; try again soon.",
                code="backend_unavailable",
                headers={"retry-after": "5"},
            ) from None
        return answer.content
