"""Attacks by the body of a request, on the server as a program."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import quote_plus

import httpx2 as httpx
import pytest
from PIL import Image

from tests.security.http_server import HEADERS, Attacked, answer, attacked, error_code, head

pytestmark = pytest.mark.program

Report = Callable[[str], None]
JSON, MULTIPART, FORM = (
    "application/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
)
ROUTES = ("/v1/videos", "/v1/videos/edits", "/v1/videos/extensions", "/v1/images/generations")
MIB = 1 << 20
SIZE = 31 * MIB
FILE = '; filename="x.png"'
MAX_STALL_S = 1.0  # a few hundredths of a second on a machine with nothing else to do


def part(name: str, value: bytes, more: str = "") -> bytes:
    return (
        f'--x\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
    )


def rows(count: int, row: bytes) -> bytes:
    return b",".join([row] * count)


BODIES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "ten million empty lists": lambda: (
        JSON,
        b'{"prompt":"x","a":[' + rows(SIZE // 3, b"[]") + b"]}",
    ),
    "two million fields": lambda: (
        JSON,
        b"{" + b",".join(b'"%d":1' % n for n in range(SIZE // 12)) + b"}",
    ),
    "a name of 31 MiB": lambda: (JSON, b'{"prompt":"x","' + b"ab" * (SIZE // 2) + b'":1}'),
    "lists in extra_params as text": lambda: (
        JSON,
        json.dumps({"prompt": "x", "extra_params": "[" + "[]," * (SIZE // 3) + "1]"}).encode(),
    ),
    "ten million escapes in a form": lambda: (FORM, b"prompt=" + b"%41" * (SIZE // 3)),
    "a data URL of nothing but escapes": lambda: (
        JSON,
        b'{"prompt":"x","input_reference":{"image_url":"data:' + rb"\u002b" * (SIZE // 6) + b'"}}',
    ),
    "a text field of 31 MiB": lambda: (
        MULTIPART,
        part("prompt", b"ab" * (SIZE // 2)) + b"--x--\r\n",
    ),
    "lists in image_reference of a form": lambda: (
        MULTIPART,
        part("image_reference", b"[" + b"[]," * (SIZE // 3)) + b"--x--\r\n",
    ),
    "a long text in image_reference of a form": lambda: (
        MULTIPART,
        part("image_reference", b'{"image_url":"' + b"ab" * (SIZE // 2)) + b"--x--\r\n",
    ),
    "almost boundaries": lambda: (
        MULTIPART,
        part("input_reference", b"\r\n--" * (SIZE // 4), FILE) + b"--x--\r\n",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    # The Triton that is made up decodes images in the event loop, when it comes so far.
    with attacked(tmp_path_factory.mktemp("server"), environment={"HOLD": "1"}) as running:
        yield running


# A process of its own: a thread here would wait while a body of 31 MiB is put together.
POLL = """
import http.client, select, sys, time
connection, slowest = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60), 0.0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    begin = time.monotonic()
    connection.request("GET", "/livez")
    connection.getresponse().read()
    slowest = max(slowest, time.monotonic() - begin)
print(slowest)
"""


@contextmanager
def stalls(server: Attacked) -> Iterator[list[float]]:
    """Polls the server meanwhile; afterwards the list holds the seconds of the slowest answer."""
    seconds: list[float] = []
    command = [sys.executable, "-c", POLL, str(server.port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield seconds
        seconds.append(float(process.communicate("")[0]))


def post(server: Attacked, kind: str, content: bytes, route: str = "/v1/videos") -> httpx.Response:
    return httpx.post(
        f"{server.url}{route}",
        content=content,
        headers={**HEADERS, "content-type": kind},
        timeout=60,
    )


@pytest.mark.attack(
    "one body of 31 MiB that is made to be slow",
    "the event loop stops for 3 to 19 s; 0.7 to 2.8 GB",
)
def test_no_body_stops_the_event_loop(server: Attacked, after: Report) -> None:
    post(server, JSON, b'{"prompt":"x"}')
    before = server.peak_mib()
    with stalls(server) as seconds:
        for name, make in BODIES.items():
            kind, content = make()
            for route in ROUTES:
                assert post(server, kind, content, route).status_code in (400, 413), (name, route)
    grown = server.peak_mib() - before
    assert max(seconds) < MAX_STALL_S
    assert grown < 120
    bodies = f"{len(BODIES)} such bodies on {len(ROUTES)} routes"
    after(f"{bodies}: refused, {1000 * max(seconds):.0f} ms at most, {grown:.0f} MiB")


@pytest.fixture(scope="module")
def image() -> bytes:
    """A PNG that is about as large as a data URL may make it."""
    file = BytesIO()
    Image.effect_noise((3900, 3900), 60).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.mark.attack("an image of 15 MB in each encoding", "answered, with a pause of 50 ms")
def test_a_large_image_is_accepted_in_each_encoding(
    server: Attacked, image: bytes, after: Report
) -> None:
    url = "data:image/png;base64," + b64encode(image).decode()
    assert 19_000_000 < len(url) <= 20 * MIB
    reference = {"image_url": url}
    prompt = part("prompt", b"x")
    bodies = [
        (JSON, json.dumps({"prompt": "x", "input_reference": reference}).encode()),
        (
            JSON,
            json.dumps({"input_reference": reference, "prompt": "x"})
            .replace("+", r"\u002B")
            .encode(),
        ),
        (
            JSON,
            json.dumps({"prompt": "x", "extra_params": {"input_reference": reference}})
            .replace("/", r"\/")
            .encode(),
        ),
        (MULTIPART, prompt + part("input_reference", image, FILE) + b"--x--\r\n"),
        (MULTIPART, part("input_reference[image_url]", url.encode()) + prompt + b"--x--\r\n"),
        (
            MULTIPART,
            part("image_reference", json.dumps(reference).encode()) + prompt + b"--x--\r\n",
        ),
        (FORM, f"prompt=x&input_reference%5Bimage_url%5D={quote_plus(url)}".encode()),
        (FORM, f"input_reference[image_url]={quote_plus(url)}&prompt=x".encode()),
    ]
    with stalls(server) as seconds:
        for number, (kind, content) in enumerate(bodies):
            reply = post(server, kind, content)
            assert reply.status_code == 200, (number, kind, reply.text)
    assert max(seconds) < MAX_STALL_S
    after(f"accepted, with a pause of {1000 * max(seconds):.0f} ms at most")


@pytest.mark.attack(
    "40 unfinished uploads of 31 MB", "1.46 GB of memory, for as long as the client likes"
)
def test_unfinished_uploads_are_bounded_and_end(tmp_path: Path, after: Report) -> None:
    flags = ["--body-timeout-s", "4", "--max-held-bytes", str(128 * MIB)]
    with attacked(tmp_path, *flags) as server:
        server.get("/v1/videos")
        before = server.peak_mib()
        uploads = [upload(server) for _ in range(40)]
        held = server.peak_mib() - before
        assert held < 200
        assert server.answers()
        replies = [answer(connection) for connection in uploads]
        statuses = [status for status, _, _ in replies]
        codes = {error_code(body) for _, _, body in replies}
        assert codes == {"request_timeout", "server_busy"}
        late = statuses.count(408)
    after(f"{held:.0f} MiB; {late} of 40 end with 408 when their time is over, the others with 503")


def upload(server: Attacked) -> socket.socket:
    """31 MB of a body whose end never comes, up to an answer."""
    connection = server.connect(
        head("POST", "/v1/videos", f"content-type: {JSON}", f"content-length: {SIZE + 1}")
    )
    connection.sendall(b'{"input_reference":{"image_url":"data:image/png;base64,')
    for _ in range(SIZE // MIB - 1):
        if select.select([connection], [], [], 0)[0]:
            break
        connection.sendall(b"A" * MIB)
    connection.settimeout(20)
    return connection
