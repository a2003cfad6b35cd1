"""The HTTP client for huggingface_hub, with limits: the hub may be an untrusted server.

By itself, huggingface_hub turns headers into file names, follows links to other hosts with the
token, and writes any number of bytes.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from pipeline.byte_sizes import human_size
from pipeline.errors import CheckpointError

TIMEOUT_S = 30.0  # without a byte sent or received
MAX_REQUESTS = 5000
MAX_LISTING_BYTES = 64 << 20  # of responses other than the files themselves
# Headers of HEAD responses that become file names below HF_HOME.
NAMING_HEADERS = ("etag", "x-linked-etag", "x-repo-commit")
_NAME = re.compile(r"[\w-][\w.+=-]{0,199}")
_AGENTS = "/api/agent-harnesses"
_RETRIES = ("thrown while requesting", "Retrying in ")  # in huggingface_hub's messages


class Guard:
    """The bytes and requests that one download may still use. ``allow`` adds bytes.

    Each violation raises ``CheckpointError``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = MAX_LISTING_BYTES
        self._requests = MAX_REQUESTS
        self._hub = httpx2.URL(constants.ENDPOINT)

    def allow(self, total: int) -> None:
        """Allow ``total`` bytes of files, in addition to those of listings."""
        with self._lock:
            self._bytes += total

    def client(self) -> httpx2.Client:
        """Return an HTTP client for huggingface_hub that checks requests and responses."""
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
            # This list of agent tools would let huggingface_hub report which tool started this
            # process.
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
        """Record that ``count`` bytes arrived. Raises ``CheckpointError`` above the limit."""
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


class _RetriesOnce(logging.Filter):
    """Reports in one sentence that requests are repeated; huggingface_hub logs two lines a try."""

    def __init__(self) -> None:
        super().__init__()
        self._reported = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(words in record.getMessage() for words in _RETRIES):
            return True
        if self._reported:
            return False
        self._reported = True
        record.msg, record.args = "%s does not answer; trying again", (constants.ENDPOINT,)
        return True


@contextmanager
def guarded() -> Iterator[Guard]:
    """Make huggingface_hub use a guarded HTTP client inside the block, and log its retries once."""
    guard, retries = Guard(), _RetriesOnce()
    library = logging.getLogger("huggingface_hub")
    requests = logging.getLogger("huggingface_hub.utils._http")
    if logging.getLogger().handlers:  # this process has a log; the library would write beside it
        library.handlers.clear()
        library.propagate = True
    set_client_factory(guard.client)
    requests.addFilter(retries)
    try:
        yield guard
    finally:
        requests.removeFilter(retries)
        set_client_factory(default_client_factory)
