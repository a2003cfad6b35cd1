"""Bounds of requests to the outside: address blocks, one deadline, pieces of a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address, ip_network
from typing import Any

import httpx2 as httpx
import pytest

from proxy import outbound
from proxy.outbound import (
    DEADLINE_EXTENSION,
    BodyTooLarge,
    ForbiddenAddress,
    is_public,
    outbound_client,
)

URL = "http://8.8.8.8/"
BLOCKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
]  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS)
def test_block_is_not_public_from_its_first_to_its_last_address(block: str) -> None:
    network = ip_network(block)
    for address in (network.network_address, network.broadcast_address):
        assert not is_public(str(address))
        if address.version == 4:
            assert not is_public(f"::ffff:{address}")
            assert not is_public(f"64:ff9b::{address}")


@pytest.mark.parametrize("block", BLOCKS)
def test_addresses_around_a_block_are_public(block: str) -> None:
    network = ip_network(block)
    inside = [ip_network(other) for other in BLOCKS]
    for number in (int(network.network_address) - 1, int(network.broadcast_address) + 1):
        if 0 < number < 1 << network.max_prefixlen:
            address = (
                ip_address(number) if network.version == 4 else ip_address(max(number, 1 << 120))
            )
            assert is_public(str(address)) != any(address in other for other in inside)


@pytest.mark.parametrize(
    ("address", "public"),
    [("1fff:ffff::1", False), ("2000::1", True), ("3ffe::1", True), ("4000::", False)],
)
def test_only_ipv6_that_is_given_out_is_public(address: str, public: bool) -> None:
    assert is_public(address) == public


Handler = Callable[[Any, httpx.Request], Awaitable[httpx.Response]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """Replaces the connection to the outside."""
    return lambda handler: monkeypatch.setattr(
        httpx.AsyncHTTPTransport, "handle_async_request", handler
    )


async def test_redirects_share_one_deadline(answers) -> None:
    deadlines: list[float] = []

    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        deadlines.append(request.extensions[DEADLINE_EXTENSION])
        await asyncio.sleep(0.01)
        status = 302 if len(deadlines) < 4 else 200
        return httpx.Response(status, headers={"location": URL}, stream=httpx.ByteStream(b""))

    answers(handle)
    began = asyncio.get_running_loop().time()
    async with outbound_client(allow_private=False, timeout_s=20) as client:
        assert (await client.get(URL)).status_code == 200
        assert len(deadlines) == 4
        assert len(set(deadlines)) == 1
        assert 20 <= deadlines[0] - began < 30
        await client.get(URL)
    assert deadlines[-1] > deadlines[0], "another request has its own"


async def test_slow_redirects_end_at_the_deadline(answers) -> None:
    seen = 0

    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        nonlocal seen
        seen += 1
        await asyncio.sleep(0.2)
        return httpx.Response(302, headers={"location": URL}, stream=httpx.ByteStream(b""))

    answers(handle)
    async with outbound_client(allow_private=False, timeout_s=0.3) as client:
        with pytest.raises(httpx.TimeoutException):
            await client.get(URL)
    assert seen <= 2


class Pieces(httpx.AsyncByteStream):
    """So many pieces of one byte each; notes whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count, self.closed = count, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            yield b"x"

    async def aclose(self) -> None:
        self.closed = True


async def fetch(answers, stream: Pieces, headers: dict[str, str], **options: Any) -> httpx.Response:
    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=stream)

    answers(handle)
    try:
        async with outbound_client(allow_private=False, timeout_s=20, **options) as client:
            return await client.get(URL)
    finally:
        assert stream.closed


async def test_body_comes_in_a_bounded_number_of_pieces(
    answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "MAX_PIECES", 200)
    assert (await fetch(answers, Pieces(200), {})).content == b"x" * 200
    with pytest.raises(BodyTooLarge, match="more than 200 pieces"):
        await fetch(answers, Pieces(201), {})


async def test_body_has_a_bounded_number_of_bytes(answers) -> None:
    assert (await fetch(answers, Pieces(10), {}, max_bytes=10)).content == b"x" * 10
    with pytest.raises(BodyTooLarge, match="more than 10 bytes"):
        await fetch(answers, Pieces(11), {}, max_bytes=10)


async def test_other_tasks_run_while_a_body_of_many_pieces_is_read(answers) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await fetch(answers, Pieces(64 * 50), {})
    ticking.cancel()
    assert ticks >= 50


@pytest.mark.parametrize("coding", ["gzip", "br", "Deflate"])
async def test_compressed_body_is_refused(answers, coding: str) -> None:
    with pytest.raises(httpx.DecodingError):
        await fetch(answers, Pieces(1), {"content-encoding": coding})


async def test_body_that_is_called_plain_is_read(answers) -> None:
    assert (await fetch(answers, Pieces(3), {"content-encoding": "Identity"})).content == b"xxx"


async def test_next_address_is_tried_after_one_that_refuses(
    answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        addresses = ("8.8.8.8", "8.8.4.4", "8.8.8.8", "1.1.1.1")
        return [(2, 1, 6, "", (address, 80)) for address in addresses]

    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        tried.append(request.url.host)
        if len(tried) < 3:
            raise (httpx.ConnectError if len(tried) == 1 else httpx.ConnectTimeout)("no")
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    answers(handle)
    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        await client.get("http://many.test/")
    assert tried == ["8.8.8.8", "8.8.4.4", "1.1.1.1"]


async def test_names_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise OSError

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        with pytest.raises(httpx.ConnectError, match="cannot be resolved"):
            await client.get("http://none.test/")


async def test_private_addresses_are_reached_only_where_that_is_allowed(answers) -> None:
    async def handle(_: Any, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    answers(handle)
    async with outbound_client(allow_private=True, timeout_s=5) as client:
        assert (await client.get("http://10.0.0.1/")).status_code == 200
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        with pytest.raises(ForbiddenAddress):
            await client.get("http://10.0.0.1/")


async def test_few_names_are_looked_up_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, go = 0, 0, asyncio.Event()

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        return [(2, 1, 6, "", ("8.8.8.8", 80))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    lookups = outbound.Lookups()
    asked = [asyncio.create_task(lookups.addresses("x", 80)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert running == outbound.LOOKUPS_AT_A_TIME == 3
    asked[0].cancel()
    await asyncio.sleep(0.01)
    assert running == 3, "a look-up goes on without the one that asked"
    go.set()
    assert await asyncio.gather(*asked[1:]) == [["8.8.8.8"]] * 9
    assert most == 3
