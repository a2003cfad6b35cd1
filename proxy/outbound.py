"""HTTP to URLs that clients name, which must lead to the public internet only.

A host name is resolved once, and the connection goes to the address that was checked, so that DNS
rebinding has no effect. TLS still verifies the name. A redirect is a new request and is checked
like the first one.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx2 as httpx

MAX_REDIRECTS = 3
MAX_RESPONSE_BYTES = 16 << 20
MAX_PIECES = 40_000  # of a body; a piece of one byte takes 75 us of the event loop
PIECES_AT_A_TIME = 64
LOOKUPS_AT_A_TIME = 3  # asyncio's few threads also decode images
# A request extension; the client passes extensions on to redirects.
DEADLINE_EXTENSION = "triton_video.deadline"

# Listed here: `ipaddress.is_global` differs between versions of Python, and includes multicast.
NOT_PUBLIC = [
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved and broadcast
        "168.63.129.16/32",  # public by number, but Azure's host answers it to each of its machines
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
]
IPV6_UNICAST = ip_network("2000::/3")  # all IPv6 that is assigned so far
NAT64_PREFIX = ip_network("64:ff9b::/96")


class ForbiddenAddress(httpx.TransportError):
    """The host of the URL is not at a public address."""


class BodyTooLarge(httpx.TransportError):
    """The response has too many bytes, or arrives in too many pieces."""


class Lookups:
    """Resolves host names, a few at a time.

    A name server that does not answer blocks a thread for half a minute.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(LOOKUPS_AT_A_TIME)

    async def addresses(self, host: str, port: int | None) -> list[str]:
        """Return the addresses of ``host``. Raises ``OSError`` or ``UnicodeError``."""
        # Shielded: the thread goes on after a cancelled caller, and keeps its place until then.
        found = asyncio.ensure_future(self._look_up(host, port))
        found.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(found)

    async def _look_up(self, host: str, port: int | None) -> list[str]:
        async with self._turn:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def outbound_client(
    *,
    allow_private: bool,
    timeout_s: float,
    max_bytes: int = MAX_RESPONSE_BYTES,
    lookups: Lookups | None = None,
) -> httpx.AsyncClient:
    """Create a client for URLs that others chose.

    A request ends within ``timeout_s``, including its redirects and its body. Clients that share
    ``lookups`` share its limit. A compressed body is refused.

    Requests raise ``httpx.HTTPError`` for every failure after the URL was parsed, among them
    ``ForbiddenAddress`` and ``BodyTooLarge``.
    """
    return httpx.AsyncClient(
        transport=_CheckedTransport(
            allow_private=allow_private,
            timeout_s=timeout_s,
            max_bytes=max_bytes,
            lookups=lookups or Lookups(),
        ),
        # Leaves time for the next address of a host whose first one does not answer.
        timeout=httpx.Timeout(timeout_s, connect=timeout_s / 3),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        headers={"accept-encoding": "identity"},
        trust_env=False,
    )


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        ip = _embedded(ip) or ip
    if isinstance(ip, IPv6Address) and ip not in IPV6_UNICAST:
        return False
    return not any(ip in block for block in NOT_PUBLIC)


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address embedded in ``ip``, if any.

    6to4 and Teredo are not decoded: `NOT_PUBLIC` refuses both.
    """
    return IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in NAT64_PREFIX else ip.ipv4_mapped


@functools.cache
def _tls() -> ssl.SSLContext:
    """Read the certificates of the system once."""
    return httpx.create_ssl_context()


class _CheckedTransport(httpx.AsyncBaseTransport):
    def __init__(self, *, allow_private: bool, timeout_s: float, max_bytes: int, lookups: Lookups):
        self._lookups = lookups
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        # No keep-alive: a connection is known by address only, and could be reused for another
        # name than the one on its certificate.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=_tls(), limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        deadline = request.extensions.setdefault(
            DEADLINE_EXTENSION, asyncio.get_running_loop().time() + self._timeout_s
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._send(request)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = _BoundedStream(response.stream, deadline, self._max_bytes)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            # httpx would decompress it past the bound: 20 MiB can become 20 GiB.
            body = _Compressed(response.stream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=body,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        failure: httpx.TransportError = httpx.ConnectError("no address")
        for address in await self._addresses(request.url):
            try:
                return await self._inner.handle_async_request(_to(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, url: httpx.URL) -> list[str]:
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("only http and https are allowed")
        host = url.raw_host.decode("ascii")
        try:
            addresses = await self._lookups.addresses(host, url.port)
        except (OSError, UnicodeError):
            raise httpx.ConnectError("the host's name cannot be resolved") from None
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise ForbiddenAddress("the host is not at a public address")
        return addresses


def _to(address: str, request: httpx.Request) -> httpx.Request:
    """Return the same request, with its Host header, for a connection to ``address``."""
    name = request.url.raw_host.decode("ascii")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )


class _Compressed(httpx.AsyncByteStream):
    """A compressed body: reading it raises ``httpx.DecodingError``."""

    def __init__(self, stream: httpx.AsyncByteStream):
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise httpx.DecodingError("the answer is compressed, which was not asked for")
        yield b""

    async def aclose(self) -> None:
        await self._stream.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    """A response body, bounded in bytes and by a deadline on the loop's clock."""

    def __init__(self, stream: httpx.AsyncByteStream, deadline: float, max_bytes: int):
        self._stream = stream
        self._deadline = deadline
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left, count = self._max_bytes, 0
        pieces = aiter(self._stream)
        while (piece := await self._next(pieces)) is not None:
            left, count = left - len(piece), count + 1
            if left < 0:
                raise BodyTooLarge(f"the answer has more than {self._max_bytes} bytes")
            if count > MAX_PIECES:
                raise BodyTooLarge(f"the answer comes in more than {MAX_PIECES} pieces")
            if count % PIECES_AT_A_TIME == 0:
                # Reading what has arrived never yields to the loop, so let other tasks run.
                await asyncio.sleep(0)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(pieces, None)
        except TimeoutError:
            raise httpx.ReadTimeout("no whole answer in time") from None
