"""Notifies the operator's webhook of finished videos, signed by Standard Webhooks.

See https://www.standardwebhooks.com. OpenAI's SDKs verify it with ``client.webhooks.unwrap``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

import httpx2 as httpx
from standardwebhooks import Webhook

from proxy.errors import DatabaseUnavailableError
from proxy.jobs.outbox import Event, Outbox
from proxy.metrics import Metrics
from proxy.waiting import wait_for_event

logger = logging.getLogger(__name__)

POLL_S = 1.0
MAX_CONCURRENT = 8
ANSWER_TIMEOUT_S = 15.0


class WebhookSender:
    """Delivers the events of an outbox to one URL, with retries up to a limit."""

    def __init__(
        self, outbox: Outbox, client: httpx.AsyncClient, url: str, secret: str, metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ):  # fmt: skip
        """``client`` must end each request in less than `proxy.jobs.outbox.SENDING_S`."""
        self._outbox = outbox
        self._client = client
        self._url = url
        self._signer = Webhook(secret)
        self._metrics = metrics
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                events = await self._outbox.take(MAX_CONCURRENT)
            except DatabaseUnavailableError:
                events = []
            await asyncio.gather(*(self._deliver(event) for event in events))
            if len(events) < MAX_CONCURRENT:
                await wait_for_event(stopping, POLL_S)

    async def _deliver(self, event: Event) -> None:
        status = await self._post(event)
        try:
            await self._note(event, status)
        except DatabaseUnavailableError:
            return  # the receipt is not recorded, so the event will be sent again

    async def _note(self, event: Event, status: int | None) -> None:
        if status is not None and 200 <= status < 300:
            self._metrics.delivered("delivered")
            await self._outbox.done(event)
        elif status == HTTPStatus.GONE:
            self._metrics.delivered("refused")
            await self._outbox.done(event)
        else:
            self._metrics.delivered("failed")
            again = await self._outbox.later(event)
            logger.warning(
                "the webhook did not take %s: %s", event.id, "later again" if again else "given up"
            )

    async def _post(self, event: Event) -> int | None:
        """Send an event; return the status of the response, or None without one."""
        instant = datetime.fromtimestamp(self._clock(), UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(instant.timestamp())),
            "webhook-signature": self._signer.sign(
                msg_id=event.id, timestamp=instant, data=event.body
            ),
        }
        try:
            # A redirect is no receipt. Only the status is read: a body may be endless.
            async with self._client.stream(
                "POST", self._url, content=event.body, headers=headers, follow_redirects=False
            ) as answer:
                return answer.status_code
        except httpx.HTTPError as error:
            logger.warning("the webhook cannot be reached: %s", type(error).__name__)
            return None
