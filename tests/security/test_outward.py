"""Hosts of images and receivers of webhooks that mean harm; secrets in what the command line
prints.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import pytest

from cli.redaction import without_credentials
from pipeline.errors import InputError
from proxy import outbound
from proxy.jobs.outbox import Event, Outbox
from proxy.metrics import Metrics
from proxy.outbound import BodyTooLarge, outbound_client
from proxy.webhooks import WebhookSender
from tests.conftest import ROOT

Report = Callable[[str], None]
SECRET = "hunter2-secret"


Write = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def site(write: Write) -> AsyncIterator[str]:
    """The address of a web server on loopback that answers with ``write``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await write(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def bomb(mebibytes: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(mebibytes)) + squeeze.flush()


@pytest.mark.attack(
    "image_url leads to a compressed bomb",
    "decompressed past the bound of 20 MiB: 0.6 MB took 1.2 GB of memory",
)
async def test_a_compressed_answer_is_not_read(after: Report) -> None:
    for encoding in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        await refuse_compressed(encoding)
    after("refused unread")


async def refuse_compressed(encoding: str) -> None:
    data = bomb(64)

    async def write(writer: asyncio.StreamWriter) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)

    async with site(write) as url, outbound_client(allow_private=True, timeout_s=10) as client:
        with pytest.raises(httpx.DecodingError):
            await client.get(url)
        # A webhook's receiver may compress: its status counts, its body is not read.
        async with client.stream("POST", url, content=b"{}") as answer:
            assert answer.status_code == 200


@pytest.mark.attack(
    "a webhook receiver answers without an end", "read for 15 s or 16 MiB, then sent again for days"
)
async def test_a_receivers_body_is_not_read(after: Report) -> None:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
            await writer.drain()

    async with site(write) as url, outbound_client(allow_private=True, timeout_s=10) as client:
        signing = "whsec_" + base64.b64encode(bytes(24)).decode()
        sender = WebhookSender(cast(Outbox, None), client, url, signing, Metrics())
        began = time.monotonic()
        assert await sender._post(Event(1, "evt_1", "{}", 1)) == 200
        assert time.monotonic() - began < 5
    after("its status counts, nothing is read")


@pytest.mark.attack(
    "image_url leads to a body in pieces of one byte",
    "the event loop stood still for 0.8 s, for 20 s",
)
async def test_a_body_in_tiny_pieces_does_not_stop_the_loop(
    after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "MAX_PIECES", 15_000)

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n" * 10_000)
            await writer.drain()

    async def turns() -> None:
        while True:
            counted.append(time.monotonic())
            await asyncio.sleep(0)

    counted: list[float] = []
    async with site(write) as url, outbound_client(allow_private=True, timeout_s=20) as client:
        task = asyncio.create_task(turns())
        with pytest.raises(BodyTooLarge, match="pieces"):
            await client.get(url)
        task.cancel()
    assert len(counted) > 15_000 / outbound.PIECES_AT_A_TIME
    after("others have a turn every 64 pieces; refused after 40,000")


@pytest.mark.attack(
    "names of image_url that no name server answers",
    "all threads of the event loop waited for them",
)
async def test_slow_names_leave_threads_for_others(
    after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def slow(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        time.sleep(0.6)
        raise OSError("no answer")

    monkeypatch.setattr("socket.getaddrinfo", slow)
    async with outbound_client(allow_private=True, timeout_s=0.2) as client:
        tries = [asyncio.create_task(client.get(f"http://slow-{i}.test/")) for i in range(20)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await asyncio.to_thread(lambda: 42) == 42
        assert time.monotonic() - began < 0.3
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(result, httpx.HTTPError) for result in results)
        assert len(asked) == outbound.LOOKUPS_AT_A_TIME
    after("3 look-ups at a time")


URL = f"postgresql://user:{SECRET}@127.0.0.1:1/videos"


@pytest.mark.program
@pytest.mark.attack(
    "passwords in URLs show in errors and tracebacks", "printed for S3, HF and Triton endpoints"
)
def test_no_error_shows_a_password(
    tmp_path: Path, after: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://user:{SECRET}@127.0.0.1:1"
    s3 = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    serve = ["serve", "--triton-url", "127.0.0.1:1", "--data-path", str(tmp_path / "data")]
    cases: list[tuple[list[str], dict[str, str]]] = [
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL}),
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL.replace(":1/", ":port/")}),
        (serve, {"TRITON_VIDEO_DATABASE_URL": URL.replace("postgresql", "mysql")}),
        (serve, {"TRITON_VIDEO_STORE_URL": "s3://bucket/prefix", **s3}),
        (serve, {"TRITON_VIDEO_STORE_URL": f"s3://id:{SECRET}@bucket/prefix"}),
        (serve, {"TRITON_VIDEO_WEBHOOK_URL": f"ftp://user:{SECRET}@host/?token={SECRET}"}),
        (["generate", "--prompt", "x"], {"TRITON_VIDEO_TRITON_URL": endpoint}),
        (["generate", "--prompt", "x"], {"TRITON_VIDEO_HEIGHT": URL}),
        (["config", "show", "serve"], {"TRITON_VIDEO_DATABASE_URL": URL}),
    ]
    for arguments, variables in cases:
        words = [*arguments, "-v"][: len(arguments) + 1]
        code = f"import sys; from cli.main import main; main({words!r})"
        if arguments[0] == "config":
            code = code.replace(", '-v'", "")
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **variables}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        printed = done.stdout + done.stderr
        assert printed
        assert SECRET not in printed, (arguments, printed)
    after(f"{len(cases)} ways, with -v: none printed")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"PUT http://u:{SECRET}@h:1/b", "PUT http://***@h:1/b"),
        (
            f"({SECRET}) at http://{SECRET}@h and https://x:y@z",
            f"({SECRET}) at http://***@h and https://***@z",
        ),
        ("https://hub/acme/name@main", "https://hub/acme/name@main"),
        ("a@b without a scheme", "a@b without a scheme"),
    ],
)
def test_credentials_in_urls_are_masked(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_config_file_replaced_by_a_device_is_refused() -> None:
    from cli.params.config_file import read_config

    with pytest.raises(InputError, match="too large"):
        read_config(Path("/dev/zero"))
