"""The HTTP client that huggingface_hub downloads with, within bounds: a hub may be anyone's server.

huggingface_hub makes file names of headers, follows links to other hosts with the token, and writes
whatever comes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from pipeline.byte_sizes import human_size
from pipeline.errors import CheckpointError

TIMEOUT_S = 30.0  # without a byte
MAX_REQUESTS = 5000
MAX_LISTING_BYTES = 64 << 20  # of answers beside the files themselves
# Headers of answers to HEAD that become names of files below HF_HOME.
NAMING_HEADERS = ("etag", "x-linked-etag", "x-repo-commit")
_NAME = re.compile(r"[\w-][\w.+=-]{0,199}")
_AGENTS = "/api/agent-harnesses"


class Guard:
    """What one download may still take; ``allow`` adds to it. Each violation is a
    ``CheckpointError``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = MAX_LISTING_BYTES
        self._requests = MAX_REQUESTS
        self._hub = httpx2.URL(constants.ENDPOINT)

    def allow(self, total: int) -> None:
        """Let ``total`` bytes come beside those of listings."""
        with self._lock:
            self._bytes += total

    def client(self) -> httpx2.Client:
        """A client of huggingface_hub, whose requests and answers are looked at."""
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks["request"], self._before],
            "response": [*hooks["response"], self._after],
        }
        client.timeout = httpx2.Timeout(TIMEOUT_S)
        return client

    def _before(self, request: httpx2.Request) -> None:
        if request.url.path.endswith(_AGENTS):
            # The names of tools, by which the hub would be told which of them started this process.
            raise httpx2.ConnectError("not asked for")
        with self._lock:
            self._requests -= 1
        if self._requests < 0:
            raise CheckpointError(
                f"{constants.ENDPOINT} asks for more than {MAX_REQUESTS} requests"
            )
        hub, url = self._hub, request.url
        if (url.scheme, url.host, url.port) != (hub.scheme, hub.host, hub.port):
            request.headers.pop("authorization", None)

    def _after(self, response: httpx2.Response) -> None:
        for header in NAMING_HEADERS if response.request.method == "HEAD" else ():
            name = response.headers.get(header, "").removeprefix("W/").strip('"')
            if name and (not _NAME.fullmatch(name) or ".." in name):
                raise CheckpointError(
                    f"{constants.ENDPOINT} answered with an impossible {header}: {name[:80]!r}"
                )
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Counted(response.stream, self)

    def take(self, count: int) -> None:
        """Note that ``count`` bytes came."""
        with self._lock:
            self._bytes -= count
        if self._bytes < 0:
            raise CheckpointError(
                f"{constants.ENDPOINT} sends more than it announced; "
                f"{human_size(MAX_LISTING_BYTES)} more are allowed"
            )


class _Counted(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, guard: Guard):
        self._stream = stream
        self._guard = guard

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._guard.take(len(piece))
            yield piece

    def close(self) -> None:
        self._stream.close()


@contextmanager
def guarded() -> Iterator[Guard]:
    """huggingface_hub uses a guarded client inside the block."""
    guard = Guard()
    set_client_factory(guard.client)
    try:
        yield guard
    finally:
        set_client_factory(default_client_factory)
