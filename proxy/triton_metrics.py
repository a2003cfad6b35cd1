"""The metrics of the Triton that ``serve`` started, which it serves on a unix socket only."""

from __future__ import annotations

import httpx2 as httpx

from proxy.errors import ApiError
from proxy.own_triton import OwnTriton

ANSWER_TIMEOUT_S = 5.0


class TritonMetrics:
    """Fetches the metrics of ``own``; None if this server starts no Triton."""

    def __init__(self, own: OwnTriton | None):
        self._own = own

    async def page(self) -> bytes:
        """Return the metrics in Prometheus's text format.

        Raises ``ApiError``: 404 without a Triton, 503 while Triton does not answer there.
        """
        if self._own is None:
            raise ApiError(
                404,
                "This server did not start its Triton; scrape the metrics port of that Triton.",
                code="not_found",
            )
        place = self._own.place
        if place is None:
            raise _no_answer()
        transport = httpx.AsyncHTTPTransport(uds=str(place.metrics))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=ANSWER_TIMEOUT_S) as client:
                answer = await client.get("http://triton/metrics")
                answer.raise_for_status()
        except httpx.HTTPError:
            raise _no_answer() from None
        return answer.content


def _no_answer() -> ApiError:
    return ApiError(
        503,
        "Triton does not answer; try again soon.",
        code="backend_unavailable",
        headers={"retry-after": "5"},
    )
