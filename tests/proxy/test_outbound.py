"""Outbound requests, to a server on loopback and with a fake name server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest
import trustme

from proxy import outbound
from proxy.outbound import BodyTooLarge, ForbiddenAddress, is_public, outbound_client

NAMES = "asyncio.base_events.BaseEventLoop.getaddrinfo"
Answer = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


def plain(body: bytes = b"hello", status: str = "200 OK", *headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return answer


@asynccontextmanager
async def served(
    answer: Answer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server's port, and the heads of the requests that came."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Sets the answers of the name server: each is used once, the last one forever."""
    answers: dict[str, list[str]] = {}

    async def getaddrinfo(_: Any, host: str, port: int | None, **__: Any) -> list[Any]:
        left = answers[host]
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(2, 1, 6, "", (address, port or 0))]

    monkeypatch.setattr(NAMES, getaddrinfo)
    return answers


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9",
        "168.63.129.16",
        "169.254.169.254", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1",
        "203.0.113.9", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1", "4000::1",
    ],
)  # fmt: skip
def test_private_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::1111"]
)
def test_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    async with served(plain()) as (port, seen):
        async with outbound_client(allow_private=False, timeout_s=5) as client:
            with pytest.raises(ForbiddenAddress):
                await client.get(f"http://{host}:{port}/")
        assert seen == []


async def test_host_with_one_private_address_is_not_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(NAMES, getaddrinfo)
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        with pytest.raises(ForbiddenAddress):
            await client.get("http://two.test/")


async def test_connection_goes_to_the_checked_address(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is resolved once: a second, different answer has no effect."""
    asked: list[httpx.Request] = []

    async def recorded(_: Any, request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", recorded)
    names["rebind.test"] = ["8.8.8.8", "127.0.0.1"]
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        await client.get("https://rebind.test/a?b=c")
        with pytest.raises(ForbiddenAddress):
            await client.get("https://rebind.test/")
    (request,) = asked
    assert str(request.url) == "https://8.8.8.8/a?b=c"
    assert (request.headers["host"], request.extensions["sni_hostname"]) == (
        "rebind.test",
        "rebind.test",
    )


@pytest.mark.parametrize(
    "target", ["http://inside.test/", "http://169.254.169.254/latest", "file:///etc/passwd"]
)
async def test_redirect_is_checked_like_the_first_request(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:

    async def redirect(_: Any, __: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": target}, stream=httpx.ByteStream(b""))

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", redirect)
    metadata = "169.254.169.254"
    names.update({"outside.test": ["8.8.8.8"], "inside.test": ["10.0.0.1"], metadata: [metadata]})
    async with outbound_client(allow_private=False, timeout_s=5) as client:
        with pytest.raises((ForbiddenAddress, httpx.UnsupportedProtocol)):
            await client.get("http://outside.test/")


async def test_number_of_redirects_is_limited() -> None:
    async with served(plain(b"", "302 Found", "location: /again")) as (port, seen):
        async with outbound_client(allow_private=True, timeout_s=5) as client:
            with pytest.raises(httpx.TooManyRedirects):
                await client.get(f"http://127.0.0.1:{port}/")
        assert len(seen) == 4


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://8.8.8.8/", "gopher://8.8.8.8/", "http:///", "http://a..b/"]
)
async def test_other_schemes_and_invalid_hosts_are_refused(url: str) -> None:
    async with outbound_client(allow_private=True, timeout_s=5) as client:
        with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
            await client.get(url)


async def test_tls_verifies_the_host_name(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("right.test").configure_cert(context)

    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        monkeypatch.setattr(outbound, "_tls", httpx.create_ssl_context)
        names.update({"right.test": ["127.0.0.1"], "wrong.test": ["127.0.0.1"]})
        async with served(plain(), context) as (port, seen):
            async with outbound_client(allow_private=True, timeout_s=5) as client:
                answer = await client.get(f"https://right.test:{port}/")
                assert (answer.content, str(answer.url.host)) == (b"hello", "right.test")
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"https://wrong.test:{port}/")
            assert len(seen) == 1


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(plain()) as (port, _), served(plain(b"proxy")) as (proxy, asked):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        async with outbound_client(allow_private=True, timeout_s=5) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).content == b"hello"
        assert asked == []


async def test_body_is_bounded_whatever_its_declared_length() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    for answer, enough in (
        (plain(b"x" * 100), 100),
        (plain(b"x" * 101), None),
        (endless, None),
    ):
        client = outbound_client(allow_private=True, timeout_s=5, max_bytes=100)
        async with served(answer) as (port, _), client:
            if enough:
                assert len((await client.get(f"http://127.0.0.1:{port}/")).content) == enough
                continue
            with pytest.raises(BodyTooLarge):
                await client.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"]
)
async def test_slow_server_is_dropped_at_the_deadline(head: bytes) -> None:
    """Each byte arrives within any time limit on a single read."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with (
        served(drip) as (port, _),
        outbound_client(allow_private=True, timeout_s=0.3) as client,
    ):
        with pytest.raises(httpx.TimeoutException):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_post_arrives_whole_with_its_host_header() -> None:
    async with served(plain()) as (port, seen):
        async with outbound_client(allow_private=True, timeout_s=5) as client:
            answer = await client.post(
                f"http://localhost:{port}/hook", content=b"{}", headers={"webhook-id": "1"}
            )
        assert answer.status_code == 200
        assert f"host: localhost:{port}".encode() in seen[0].lower()
        assert b"webhook-id: 1" in seen[0].lower()
