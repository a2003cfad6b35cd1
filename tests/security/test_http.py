"""Attacks by connections and requests, on the server as a program."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.security.http_server import (
    HEADERS,
    KEY,
    Attacked,
    answer,
    attacked,
    closed_within,
    error_code,
    head,
)

pytestmark = pytest.mark.program

Report = Callable[[str], None]
HELD = {"HOLD": "1"}  # no video ever finishes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """One with its defaults, for attacks that leave it as it was."""
    with attacked(tmp_path_factory.mktemp("server"), "--quiet") as running:
        yield running


def create(server: Attacked, key: str = KEY) -> str:
    """The id of a new video."""
    headers = {"authorization": f"Bearer {key}"}
    reply = httpx.post(f"{server.url}/v1/videos", json={"prompt": "x"}, headers=headers, timeout=10)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


def becomes(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true


@pytest.mark.attack(
    "100 idle connections without a key, at ulimit -n 64",
    "no answer to anyone; 2.5 MB of log a second",
)
def test_idle_connections_keep_no_one_out(tmp_path: Path, after: Report) -> None:
    with attacked(tmp_path, "--head-timeout-s", "4", descriptors=64) as server:
        logged = len(server.log)
        idle = [server.connect() for _ in range(100)]
        for _ in range(20):
            assert server.answers()
            create(server)
        assert server.descriptors() < 60
        assert all(closed_within(connection, 6) for connection in idle)
        lines = len(server.log[logged:].splitlines())
        assert server.log.count("too many are open") == 1
        assert "too many files are open" not in server.log
    after(
        f"20 of 20 requests and creations answered; all 100 closed within 4 s; {lines - 40} lines "
        "of log about it"
    )


@pytest.mark.attack(
    "accept() fails for a lack of descriptors", "a traceback for each of 2,048 tries, each second"
)
def test_a_lack_of_descriptors_is_logged_once(tmp_path: Path, after: Report) -> None:
    with attacked(tmp_path) as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(
            server.process.pid, resource.RLIMIT_NOFILE, (server.descriptors(), limits[1])
        )
        for _ in range(50):
            server.connect()
        assert becomes(lambda: "too many files are open" in server.log, 5)
        time.sleep(2.5)
        lines = server.log.count("too many files are open") + server.log.count("Traceback")
        assert lines == 1
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
        assert server.answers(10)
    after(f"{lines} line of log in 2.5 s; answers again once there are descriptors")


@pytest.mark.attack(
    "a head that is sent a byte at a time", "the connection stays for as long as the client likes"
)
@pytest.mark.parametrize("before", ["nothing", "a request", "an answer to a body that still comes"])
def test_a_slow_head_ends(tmp_path: Path, before: str, after: Report) -> None:
    with attacked(tmp_path, "--head-timeout-s", "1") as server:
        connection = server.connect()
        if before == "a request":
            connection.sendall(head("GET", "/livez"))
            assert answer(connection)[0] == 200
        elif before != "nothing":
            connection.sendall(head("POST", "/v1/videos", "content-length: 1000000", key=None))
            assert answer(connection)[0] == 401
        begin = time.monotonic()
        connection.settimeout(0.2)
        for byte in b"GET /livez HTTP/1.1\r\nx-much: " + b"x" * 1000:
            try:
                connection.sendall(bytes([byte]))
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        seconds = time.monotonic() - begin
        assert 0.5 < seconds < 5
    after(f"after {before}: closed after {seconds:.1f} s, with --head-timeout-s 1")


@pytest.mark.attack("one address opens as many connections as it can", "it may have all of them")
def test_one_client_leaves_connections_to_others(tmp_path: Path, after: Report) -> None:
    flags = ["--max-connections", "12", "--max-connections-per-client", "8", "--max-streams", "100"]
    with attacked(tmp_path, *flags, environment=HELD) as server:
        video = create(server)
        stream = head("GET", f"/v1/videos/{video}/events")
        busy = []
        while len(busy) < 6:  # half of all connections may be streams
            busy.append(server.connect(stream))
            assert busy[-1].recv(12) == b"HTTP/1.1 200"
        for _ in range(2):
            server.connect(head("POST", "/v1/videos", "content-length: 9"))
        time.sleep(0.2)
        status, headers, body = answer(server.connect())
        assert (status, error_code(body), headers["retry-after"]) == (503, "server_busy", "5")
        assert answer(server.connect(head("GET", "/livez"), source="127.0.0.2"))[0] == 200
        busy.pop().close()
        assert server.answers()
    after("its ninth gets 503, and another address is answered (--max-connections-per-client 8)")


@pytest.mark.attack(
    "20,000 invented HTTP methods without a key", "/metrics grows to 31 MB for ever"
)
def test_invented_methods_make_no_metrics(server: Attacked, after: Report) -> None:
    with httpx.Client(base_url=server.url) as http:
        http.request("FIRST", "/v1/videos")
        http.request("FIRST", "/nowhere")
        before = server.get("/metrics").content
        for number in range(1000):
            assert http.request(f"M{number}", "/v1/videos").status_code == 405
            assert http.request("GET", f"/nowhere/{number}").status_code == 404
    page = server.get("/metrics").content
    assert len(page) < len(before) + 10_000
    assert b'method="other"' in page
    assert b"M7" not in page
    after(f"2,000 requests make {len(page) - len(before)} bytes more of /metrics")


@pytest.mark.attack(
    "40 event streams of one key that are not read", "1,500 are taken, and each is kept"
)
def test_event_streams_are_bounded(tmp_path: Path, after: Report) -> None:
    with attacked(
        tmp_path, "--max-streams", "30", "--max-streams-per-key", "20", environment=HELD
    ) as server:
        mine, other = create(server), create(server, "key-b")
        streams = [server.connect(head("GET", f"/v1/videos/{mine}/events")) for _ in range(40)]
        heads = [connection.recv(12) for connection in streams]
        assert (heads.count(b"HTTP/1.1 200"), heads.count(b"HTTP/1.1 429")) == (20, 20)
        status, headers, body = answer(
            server.connect(head("POST", "/v1/videos/sync", "content-length: 2") + b"{}")
        )
        assert (status, error_code(body), headers["retry-after"]) == (429, "too_many_streams", "5")
        others = [
            server.connect(head("GET", f"/v1/videos/{other}/events", key="key-b"))
            for _ in range(11)
        ]
        heads = [connection.recv(12) for connection in others]
        assert (heads.count(b"HTTP/1.1 200"), heads.count(b"HTTP/1.1 503")) == (10, 1)
        assert server.answers()
        for connection in streams:
            connection.close()

        def opened() -> bool:
            with server.connect(head("GET", f"/v1/videos/{mine}/events")) as again:
                return again.recv(12) == b"HTTP/1.1 200"

        assert becomes(opened, 5), "a stream that is closed no longer counts"
    after("20 are taken and 20 get 429 (--max-streams-per-key 20); others are answered")


@pytest.mark.attack("answers that are not read: a download, a stream", "they stay for ever")
@pytest.mark.parametrize("kind", ["content", "events"])
def test_a_client_that_does_not_read_is_dropped(tmp_path: Path, kind: str, after: Report) -> None:
    environment = (
        {"VIDEO_BYTES": str(20 << 20)} if kind == "content" else {"HOLD": "1", "PING_S": "0.0001"}
    )
    with attacked(tmp_path, "--send-timeout-s", "1", environment=environment) as server:
        video = create(server)
        if kind == "content":
            assert becomes(
                lambda: server.get(f"/v1/videos/{video}").json()["status"] == "completed", 10
            )
        request = head("GET", f"/v1/videos/{video}/{kind}")
        begin = time.monotonic()
        for _ in range(10):
            assert server.connect(request, receive_buffer=2048).recv(12) == b"HTTP/1.1 200"
        assert becomes(lambda: server.connections() == 0, 20)
        seconds = time.monotonic() - begin
    after(f"{kind}: 10 of 10 dropped after {seconds:.1f} s (--send-timeout-s 1)")


@pytest.mark.attack(
    "standard error is a pipe that is not read", "hangs after 590 requests, and ignores SIGTERM"
)
def test_a_log_that_is_not_read_stops_nothing(tmp_path: Path, after: Report) -> None:
    reading, writing = os.pipe()
    try:
        with attacked(tmp_path, stderr=writing) as server:
            os.close(writing)
            with httpx.Client(base_url=server.url, headers=HEADERS, timeout=5) as http:
                for _ in range(2000):
                    assert http.get("/livez").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            server.process.wait(15)
            seconds = time.monotonic() - begin
    finally:
        os.close(reading)
    after(f"2,000 of 2,000 requests answered; SIGTERM ends it in {seconds:.1f} s")


@pytest.mark.attack(
    "a Host header for a redirect of /v1/videos/", "307 to the address in the header"
)
def test_no_redirect_leads_where_the_host_header_says(server: Attacked, after: Report) -> None:
    for path in ("/v1/videos/", "/v1/models/", "/metrics/", "/livez/", "/v1/videos/video_1/"):
        reply = httpx.get(f"{server.url}{path}", headers={**HEADERS, "host": "evil.example/x?"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")
        assert "location" not in reply.headers
        message = reply.json()["error"]["message"]
        assert message == f"Unknown request URL: GET {path}. Try it without the slash at the end."
    after("404 that says to leave the slash out")


@pytest.mark.attack(
    "two idempotency keys that differ after 255 characters", "the second video is the first one"
)
def test_long_idempotency_keys_are_refused(server: Attacked, after: Report) -> None:
    for last in "ab":
        headers = {**HEADERS, "idempotency-key": "k" * 255 + last}
        reply = httpx.post(
            f"{server.url}/v1/videos", json={"prompt": f"key {last}"}, headers=headers
        )
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "Idempotency-Key")
    after("400 for both, which names the header")


@pytest.mark.attack("a signed link to a video is changed for more", "no links")
def test_a_link_opens_one_video_only(server: Attacked, after: Report) -> None:
    ids = [create(server), create(server, "key-b")]
    mine = f"/v1/videos/{ids[0]}"
    assert becomes(lambda: server.get(mine).json()["status"] == "completed", 10)
    link = server.get(mine).json()["url"]
    assert httpx.get(link).status_code == 200
    for wrong in (
        link.replace(ids[0], ids[1]),
        link.replace("expires=", "expires=9"),
        link[:-1],
        f"{link}&signature=",
        link.replace("signature=", "signature=" + "A" * 50_000),
    ):
        assert httpx.get(wrong).status_code in (400, 403, 431)
    for other in ("?", "/events?", "/cancel?"):
        assert httpx.get(link.replace("/content?", other)).status_code in (401, 403, 405)
    forged = httpx.get(server.url + mine, headers={**HEADERS, "host": "evil.example/x?"})
    assert forged.json()["url"] is None
    assert link.rpartition("=")[2] not in server.log
    after("403 for any other video or time; the signature is not logged")
