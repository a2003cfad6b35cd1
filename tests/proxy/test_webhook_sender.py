"""Which answers are a receipt, and when the sender pauses; the receiver is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2 as httpx
import pytest

from proxy.jobs.outbox import Event
from proxy.metrics import Metrics
from proxy.webhooks import MAX_CONCURRENT, WebhookSender

URL = "https://receiver.example/hook"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeOutbox:
    """Hands out ``rounds`` of so many events each, then stops the sender."""

    def __init__(self, *rounds: int) -> None:
        self.rounds = list(rounds)
        self.log: list[str] = []
        self.stopping = asyncio.Event()

    async def take(self, count: int) -> list[Event]:
        assert count == MAX_CONCURRENT
        self.log.append("take")
        size = self.rounds.pop(0)
        if not self.rounds:
            self.stopping.set()
        return [Event(number, f"evt_{number}", "{}", 1) for number in range(size)]

    async def done(self, event: Event) -> None:
        self.log.append("done")

    async def later(self, event: Event) -> bool:
        self.log.append("later")
        return True


async def send(box: FakeOutbox, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True)
    async with client:
        secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
        await WebhookSender(box, client, URL, secret, Metrics(), lambda: 1000.5).run(box.stopping)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed_and_is_no_receipt(status: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        elsewhere = request.url.path == "/elsewhere"
        return httpx.Response(200 if elsewhere else status, headers={"location": "/elsewhere"})

    box = FakeOutbox(1)
    await send(box, answer)
    assert asked == [URL]
    assert box.log == ["take", "later"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "done"), (204, "done"), (299, "done"), (300, "later"), (400, "later"), (404, "later"),
     (409, "later"), (410, "done"), (411, "later"), (500, "later"), (503, "later")],
)  # fmt: skip
async def test_answers_that_end_the_delivery(status: int, outcome: str) -> None:
    box = FakeOutbox(1)
    await send(box, lambda request: httpx.Response(status))
    assert box.log == ["take", outcome]


@pytest.mark.anyio
async def test_full_round_is_followed_by_the_next_one_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def paused(event: asyncio.Event, seconds: float) -> bool:
        pauses.append(seconds)
        box.log.append("pause")
        return False

    box = FakeOutbox(MAX_CONCURRENT, MAX_CONCURRENT - 1, 0)
    monkeypatch.setattr("proxy.webhooks.wait_for_event", paused)
    await send(box, lambda request: httpx.Response(200))
    steps = [entry for entry in box.log if entry != "done"]
    assert steps == ["take", "take", "pause", "take", "pause"]
    assert pauses == [1.0, 1.0]


@pytest.mark.anyio
async def test_request_says_when_it_was_sent() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    await send(FakeOutbox(1), answer)
    assert seen[0].headers["webhook-timestamp"] == "1000"
    assert seen[0].headers["webhook-id"] == "evt_0"
    assert seen[0].content == b"{}"
