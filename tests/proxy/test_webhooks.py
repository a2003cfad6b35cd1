"""Webhooks: verified by OpenAI's SDK, retried with the same id, kept through restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from pipeline.errors import GenerationError
from pipeline.families import SamplingParams
from proxy.errors import DatabaseUnavailableError
from proxy.jobs.database import open_database
from proxy.jobs.model import NewJob
from proxy.jobs.outbox import PAUSES_S, SENDING_S, Outbox
from proxy.jobs.store import JobStore
from proxy.metrics import Metrics
from proxy.outbound import outbound_client
from proxy.settings import WorkSettings
from proxy.webhooks import WebhookSender
from tests.proxy.conftest import Opener
from tests.waiting import async_wait_for

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"


class Receiver:
    """A webhook receiver that answers with ``statuses``, and then with 200."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], str]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.seen.append(
                    ({key.lower(): value for key, value in self.headers.items()}, body)
                )
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    async def heard(self, count: int) -> None:
        """Wait for ``count`` different events; repeats do not count."""
        await async_wait_for(
            lambda: len({headers["webhook-id"] for headers, _ in self.seen}) >= count, 20
        )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


async def test_openai_sdk_verifies_a_webhook(
    serve: Opener, receiver: Receiver, monkeypatch
) -> None:
    monkeypatch.setattr("proxy.webhooks.POLL_S", 0.02)

    async with serve(
        webhook_url=receiver.url, webhook_allow_private=True, webhook_secret=SECRET
    ) as api:
        made = (await api.create())["id"]
        await api.wait(made)
        api.triton.failure = GenerationError("no")
        failed = (await api.create())["id"]
        await api.wait(failed)
        await receiver.heard(2)
    client = openai.OpenAI(api_key="unused", webhook_secret=SECRET)
    events = [client.webhooks.unwrap(body, headers) for headers, body in receiver.seen]
    told = {(event.type, event.data.id) for event in events}
    assert told == {("video.completed", made), ("video.failed", failed)}
    headers, body = receiver.seen[0]
    assert headers["webhook-id"] == events[0].id
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.replace(events[0].data.id, "video_of_another"), headers)


async def test_webhook_to_a_private_address_is_not_sent(
    serve: Opener, receiver: Receiver, monkeypatch
) -> None:
    monkeypatch.setattr("proxy.webhooks.POLL_S", 0.02)

    async with serve(webhook_url=receiver.url, webhook_secret=SECRET) as api:
        await api.wait((await api.create())["id"])
        name = 'triton_video_webhook_deliveries_total{outcome="failed"} 1.0'

        async def counted() -> bool:
            return name in (await api.http.get("/metrics")).text

        await async_wait_for(counted, 10)
    assert receiver.seen == []


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Once:
    """Stops a sender after one round."""

    def __init__(self, rounds: int = 1) -> None:
        self._left = rounds

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0

    async def wait(self) -> None: ...


@asynccontextmanager
async def outbox(url: str, clock: Clock, events: int):
    """An outbox in which as many videos are to be told of."""
    database = await open_database(url)
    jobs = JobStore(database, WorkSettings(webhook_url="https://receiver.example"), clock)
    for number in range(events):
        params = SamplingParams(prompt="x", height=64, width=64, num_frames=5, fps=8, seed=number)
        await jobs.create(NewJob("a", "shapes", params, body_hash="x"))
        await jobs.complete(await jobs.claim(["shapes"]), f"file-{number}")
    try:
        yield Outbox(database, clock)
    finally:
        await database.close()


async def send(box: Outbox, url: str, clock: Clock) -> None:
    async with outbound_client(allow_private=True, timeout_s=5) as client:
        await WebhookSender(box, client, url, SECRET, Metrics(), clock).run(Once())


async def test_retry_has_the_same_id_and_body(database_url, receiver) -> None:
    clock = Clock()
    async with outbox(database_url, clock, 1) as box:
        receiver.statuses = [500, 302]  # a redirect is no receipt
        await send(box, receiver.url, clock)
        for pause in PAUSES_S[:2]:
            before = len(receiver.seen)
            clock.now += pause - 1
            await send(box, receiver.url, clock)
            assert len(receiver.seen) == before, "the retry is not due yet"
            clock.now += 1
            await send(box, receiver.url, clock)
        assert len(receiver.seen) == 3
        assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1
        assert len({body for _, body in receiver.seen}) == 1
        assert len({headers["webhook-timestamp"] for headers, _ in receiver.seen}) == 3
        clock.now += 1e6
        await send(box, receiver.url, clock)
        assert len(receiver.seen) == 3, "a delivered event is not sent again"


async def test_event_is_given_up_after_the_last_attempt(database_url, receiver) -> None:
    clock = Clock()
    async with outbox(database_url, clock, 1) as box:
        receiver.statuses = [503] * 100
        for _ in range(len(PAUSES_S) + 5):
            await send(box, receiver.url, clock)
            clock.now += PAUSES_S[-1]
        assert len(receiver.seen) == len(PAUSES_S) + 1
        assert await box.take(10) == []


async def test_status_410_ends_the_attempts(database_url, receiver) -> None:
    clock = Clock()
    async with outbox(database_url, clock, 1) as box:
        receiver.statuses = [410]
        await send(box, receiver.url, clock)
        clock.now += 1e6
        assert await box.take(10) == []


async def test_killed_sender_loses_no_event(database_url) -> None:
    clock = Clock()
    async with outbox(database_url, clock, 3) as box:
        (first, *_), other = await box.take(2), Outbox(box._database, clock)
        assert len(await other.take(10)) == 1, "another process gets no event that is being sent"
        clock.now += SENDING_S
        again = await other.take(10)
        assert len(again) == 3
        assert (first.id, first.body) in [(event.id, event.body) for event in again]
        assert json.loads(first.body)["id"] == first.id


async def test_no_events_are_stored_without_a_webhook(serve: Opener) -> None:
    async with serve() as api:
        await api.wait((await api.create())["id"])
        assert await Outbox(api.service.jobs._database).take(10) == []


async def test_unreachable_receiver_is_tried_again(database_url) -> None:
    clock = Clock()
    async with outbox(database_url, clock, 1) as box:
        await send(box, "http://127.0.0.1:1/hook", clock)
        clock.now += PAUSES_S[0]
        (event,) = await box.take(10)
        assert event.attempts == 2


async def test_event_is_sent_again_if_its_receipt_cannot_be_stored(
    database_url, receiver, monkeypatch
) -> None:
    """Each event is sent, and again later, since its receipt was not stored."""

    async def away(event: object) -> None:
        raise DatabaseUnavailableError

    clock = Clock()
    async with outbox(database_url, clock, 2) as box:
        with monkeypatch.context() as patch:
            patch.setattr(box, "done", away)
            await send(box, receiver.url, clock)
        assert len(receiver.seen) == 2
        clock.now += SENDING_S
        await send(box, receiver.url, clock)
        assert len(receiver.seen) == 4
        assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 2
