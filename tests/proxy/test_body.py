"""Bodies that are wrong in every way: refused with the field at fault, and nothing is left of
them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.proxy.conftest import Api, Opener
from tests.proxy.live import live
from tests.waiting import async_wait_for

URL = "/v1/videos"
JSON, MULTIPART, URLENCODED = (
    "application/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
)


def part(name: bytes, value: bytes = b"x", more: bytes = b"") -> bytes:
    return (
        b'--x\r\ncontent-disposition: form-data; name="'
        + name
        + b'"'
        + more
        + b"\r\n\r\n"
        + value
        + b"\r\n"
    )


LONG_URL = "data:image/png;base64," + "A" * 100_000
PROMPT, FILE, END = part(b"prompt"), b'; filename="../../etc/passwd"', b"--x--\r\n"


async def refused(api: Api, content: bytes, kind: str) -> dict[str, Any]:
    answer = await api.http.post(
        URL, content=content, headers=[(b"content-type", kind.encode("latin-1"))]
    )
    assert answer.status_code == 400, answer.text
    assert (await api.http.get(URL)).json()["data"] == []
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PROMPT + END, "multipart/form-data"),
        (PROMPT + END, "multipart/form-data; boundary="),
        (PROMPT + END, "multipart/form-data; boundary=" + "x" * 500),
        (PROMPT + END, "multipart/form-data; boundary=\xff"),
        (PROMPT + END, 'multipart/form-data; boundary="x'),
        (b"", MULTIPART),
        (b"rubbish", MULTIPART),
        (PROMPT, MULTIPART),
        (PROMPT + part(b"seed", b"1")[:-3], MULTIPART),
        (PROMPT + part(b"input_reference", b"12345", FILE)[:-3], MULTIPART),
        (PROMPT + b"--x\r\ncontent-dispo", MULTIPART),
        (PROMPT + b"--x\r\nx: y\r\n\r\nab\r\n" + END, MULTIPART),
        (PROMPT.replace(b"\r\n", b"\n") + END, MULTIPART),
        (b"".join(part(b"f%d" % number) for number in range(5000)) + END, MULTIPART),
        (b"".join(part(b"f%d" % number, b"x", FILE) for number in range(5)) + END, MULTIPART),
        (
            b"--x\r\n"
            + b"".join(b"h%d: v\r\n" % number for number in range(10_000))
            + b"\r\nx\r\n"
            + END,
            MULTIPART,
        ),
        (b"--x\r\nh: " + b"v" * 1_000_000 + b"\r\n\r\nx\r\n" + END, MULTIPART),
        (part(b"prompt", b"\xff\xfe") + END, MULTIPART),
        (PROMPT + part(b"\xff") + END, MULTIPART),
        (part(b"prompt", b"caf\xe9") + END, MULTIPART + "; charset=latin-1"),
        (b"prompt=%ff", URLENCODED),
        (b"prompt=%ed%a0%80", URLENCODED),
        (b"prompt=\xff", URLENCODED),
        (b"&".join(b"f%d=1" % number for number in range(5000)), URLENCODED),
    ],
)
async def test_malformed_form_is_refused(serve: Opener, content: bytes, kind: str) -> None:
    """Statement 6."""
    async with serve() as api:
        assert (await refused(api, content, kind))["code"] == "invalid_form"


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", "base64", "utf-16", "unicode_escape", "no-such"]
)
async def test_charset_of_a_form_is_ignored(serve: Opener, charset: str) -> None:
    """Statement 6: Python has codecs that take minutes for a megabyte, and some that raise what
    nobody expects.
    """
    async with serve() as api:
        content, kind = (
            part(b"prompt", "rød-æ".encode()) + END,
            f"{MULTIPART}; charset={charset}",
        )
        answer = await api.http.post(URL, content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["prompt"]) == (200, "rød-æ")


@pytest.mark.parametrize(
    "content", [PROMPT + b"--x--", PROMPT + END + b"epilogue", part(b"prompt", "é".encode()) + END]
)
async def test_valid_forms_are_accepted(serve: Opener, content: bytes) -> None:
    async with serve() as api:
        assert (
            await api.http.post(URL, content=content, headers={"content-type": MULTIPART})
        ).status_code == 200


async def test_urlencoded_form_may_be_plain_utf8(serve: Opener) -> None:
    """As curl -d sends it."""
    async with serve() as api:
        content = "prompt=Ein Kätzchen".encode()
        answer = await api.http.post(URL, content=content, headers={"content-type": URLENCODED})
        assert answer.json()["prompt"] == "Ein Kätzchen"


@pytest.mark.parametrize(
    ("content", "kind", "param"),
    [
        (PROMPT + PROMPT + END, MULTIPART, "prompt"),
        (PROMPT + part(b"prompt[a]") + END, MULTIPART, "prompt"),
        (PROMPT + part(b"input_reference", b"x", FILE) * 2 + END, MULTIPART, "input_reference"),
        (part(b"prompt[]") + END, MULTIPART, "prompt[]"),
        (part(b"prompt[a]") + END, MULTIPART, "prompt"),
        (PROMPT + part(b"a[b][c]") + END, MULTIPART, "a[b][c]"),
        (PROMPT + part(b"a" + b"[b]" * 1000) + END, MULTIPART, ("a" + "[b]" * 1000)[:80]),
        (PROMPT + part(b"") + END, MULTIPART, ""),
        (PROMPT + part(b"a\0") + END, MULTIPART, "a\0"),
        (part(b"prompt", b"a\0b") + END, MULTIPART, "prompt"),
        (part(b"prompt", b"x", FILE) + END, MULTIPART, "prompt"),
        (PROMPT + part(b"seed", b"1", FILE) + END, MULTIPART, "seed"),
        (b"prompt=%00", URLENCODED, "prompt"),
        (b"prompt", URLENCODED, "prompt"),
        (b'{"prompt": "a", "prompt": "b"}', JSON, "prompt"),
        (b'{"prompt": "a", "extra_params": {"seed": 1, "seed": 2}}', JSON, "seed"),
        (b'{"prompt": "a", "extra_params": "{\\"seed\\": 1, \\"seed\\": 2}"}', JSON, "seed"),
        (b'{"prompt": "a", "extra_params": "{\\"seconds\\": NaN}"}', JSON, "extra_params"),
        (b'{"prompt": "a", "extra_params": {"extra_params": {}}}', JSON, "extra_params"),
        (json.dumps({"prompt": "a", "extra_params": "[" * 100_000}).encode(), JSON, "extra_params"),
        (b'{"prompt": "a", "\\ud800": 1}', JSON, "\\ud800"),
        (b'{"prompt": "a", "extra_params": {"\\ud800": 1}}', JSON, "\\ud800"),
        (b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}", JSON, "prompt"),
        (json.dumps({"prompt": LONG_URL}).encode(), JSON, "prompt"),
        (
            json.dumps({"prompt": "x", "input_reference": LONG_URL}).encode(),
            JSON,
            "input_reference",
        ),
        (
            json.dumps({"prompt": "x", "input_reference": {LONG_URL: "x"}}).encode(),
            JSON,
            "input_reference",
        ),
        (
            json.dumps({"prompt": "x", "extra_params": {"seed": LONG_URL}}).encode(),
            JSON,
            "extra_params",
        ),
        (json.dumps({"prompt": "x", "a" * 100_000: 1}).encode(), JSON, "a" * 80),
        (PROMPT + part(b"a" * 300) + END, MULTIPART, "a" * 80),
    ],
)
async def test_invalid_form_field_is_named(
    serve: Opener, content: bytes, kind: str, param: str
) -> None:
    """Statements 6 and 32."""
    async with serve() as api:
        assert (await refused(api, content, kind))["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("seconds", value) for value in (True, "", "4s", [], {}, "-inf", 2**80, "1e999")],
        *[("size", value) for value in ("64X64", " 64x64", "64x64\n", "-64x64", "064x64", "６４x64", "", 64, [], True)],
        *[("seed", value) for value in (2**80, 2**63, -1, 1.5, 1e300, True, "0x10", "١٢x")],
        *[("num_frames", value) for value in (1_000_001, 0, -3, 9.5, 2**80, True, "nine", 1e300)],
        *[(field, value) for field in ("width", "height") for value in (65, 63, 0, -1, 2**80, True)],
        *[("fps", value) for value in (0, 10**9, 8.5, 2**80, True)],
        *[("num_inference_steps", value) for value in (10**9, -1, True, "x")],
        *[("guidance_scale", value) for value in ("nan", "inf", -1, 1e9, True)],
        *[("flow_shift", value) for value in (0, -1, "nan", True)],
        *[("negative_prompt", value) for value in (7, "x" * 40_000, "\0", "\ud800", True)],
        *[("model", value) for value in (7, [], {}, True)],
        *[("extra_params", value) for value in (7, "[]", "", "x", [1])],
        ("max_sequence_length", 10**9),
    ],
)  # fmt: skip
async def test_impossible_value_is_refused_by_name(serve: Opener, field: str, value: Any) -> None:
    """Statement 3, and its like for every other parameter."""
    async with serve() as api:
        error = await refused(api, json.dumps({"prompt": "x", field: value}).encode(), JSON)
        assert error["param"] == field
        if field not in ("extra_params", "model"):
            extra = {"prompt": "x", "extra_params": {field: value}}
            assert (await refused(api, json.dumps(extra).encode(), JSON))["param"] == field


async def test_number_may_be_text(serve: Opener) -> None:
    """Statement 3."""
    async with serve() as api:
        made = [await api.create(seconds=value) for value in ("4", 4, 4.0, "4.0")]
        assert {video["seconds"] for video in made} == {"4.125"}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JSON, json.dumps({"prompt": "x" * 3000}).encode()),
        (MULTIPART, part(b"prompt", b"x" * 3000) + END),
        (MULTIPART, PROMPT + part(b"input_reference", b"x" * 3000, FILE) + END),
        (URLENCODED, b"prompt=" + b"x" * 3000),
    ],
)
async def test_body_over_the_limit_is_413(serve: Opener, kind: str, content: bytes) -> None:
    """Statement 8: with a length, and in chunks as Node sends streams."""
    async with serve(max_body_bytes=2048) as api, live(api.app) as site:

        async def chunks() -> Any:
            for start in range(0, len(content), 100):
                yield content[start : start + 100]

        for sent in (content, chunks()):
            answer = await site.http.post(URL, content=sent, headers={"content-type": kind})
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                413,
                "body_too_large",
            )
            assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JSON, json.dumps({"prompt": "x" * (1 << 20)}).encode()),
        (
            MULTIPART,
            part(b"prompt", b"x" * (600 << 10))
            + part(b"negative_prompt", b"x" * (600 << 10))
            + END,
        ),
        (
            MULTIPART,
            PROMPT + part(b"input_reference[image_url]", b"http://x/" + b"x" * 100_000) + END,
        ),
        (URLENCODED, b"prompt=" + b"x" * (1 << 20)),
        (URLENCODED, b"prompt=x&input_reference[image_url]=http://x/" + b"x" * (1 << 20)),
    ],
)
async def test_only_an_image_may_be_large(serve: Opener, kind: str, content: bytes) -> None:
    async with serve() as api:
        answer = await api.http.post(URL, content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert "all of it but an image may have" in answer.json()["error"]["message"]


async def test_total_size_of_held_bodies_is_bounded(serve: Opener) -> None:
    """A request that waits for its video holds no body; one that is sent, or being made into a
    job, does.
    """
    async with serve(max_body_bytes=4096, max_held_bytes=6000) as api, live(api.app) as site:
        api.triton.gate.clear()
        prompt = {"prompt": "x" * 3500}
        waiting = [
            asyncio.create_task(site.http.post(f"{URL}/sync", json=prompt)) for _ in range(1)
        ]

        async def answered(*, refused: bool) -> httpx.Response | None:
            answer = await site.http.post(URL, json=prompt)
            return answer if (answer.status_code == 503) == refused else None

        async def queued() -> list[Any]:
            return (await api.http.get(URL)).json()["data"]

        await async_wait_for(queued)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-a\r\ncontent-length: 4000\r\n\r\n"
        writer.write(head.encode() + b" " * 3500)
        await writer.drain()
        answer = await async_wait_for(lambda: answered(refused=True), 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
        assert answer.headers["retry-after"] == "5"
        writer.close()
        await async_wait_for(lambda: answered(refused=False), 10)
        api.triton.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200]


async def test_slow_body_is_408(serve: Opener) -> None:
    async with serve(body_timeout_s=0.3) as api, live(api.app) as site:
        for kind in (JSON, MULTIPART, URLENCODED):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-a\r\ncontent-type: {kind}\r\n"
            writer.write(f"{head}content-length: 1000\r\n\r\n".encode() + PROMPT)
            assert b" 408 " in await reader.readline()
            assert b'"request_timeout"' in await reader.readuntil(b"}}")
            writer.close()


async def test_chunked_form_is_accepted(serve: Opener) -> None:
    async def chunks() -> Any:
        for byte in PROMPT + END:
            yield bytes([byte])

    async with serve() as api, live(api.app) as site:
        answer = await site.http.post(URL, content=chunks(), headers={"content-type": MULTIPART})
        assert answer.status_code == 200


@pytest.mark.parametrize("kind", [JSON, MULTIPART])
async def test_aborted_upload_leaves_nothing(
    serve: Opener, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Statement 6: no job, no open temporary file, and no fault of the server in its log."""
    # larger than what stays in memory
    large = PROMPT + part(b"input_reference", b"x" * 3_000_000, FILE)

    with caplog.at_level(logging.WARNING):
        async with serve() as api, live(api.app) as site:
            await site.http.get(URL)
            before = open_files()
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", site.port)
                head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-a\r\ncontent-type: {kind}\r\n"
                writer.write(head.encode() + b"content-length: 9000000\r\n\r\n" + large)
                await writer.drain()
                writer.transport.abort()
            connections = site.server.server_state.connections
            await async_wait_for(lambda: open_files() == before and len(connections) <= 1, 10)
            assert (await site.http.get(URL)).json()["data"] == []
    assert caplog.records == []


def open_files() -> set[str]:
    """Temporary files that this process holds open."""
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return {
        name for name in names if name.startswith(tempfile.gettempdir()) and "(deleted)" in name
    }


@pytest.mark.parametrize(
    ("length", "status"),
    [("10", 400), ("-1", 400), ("x", 400), ("1, 2", 400), ("9" * 12, 413)],
)
async def test_wrong_content_length_is_refused(serve: Opener, length: str, status: int) -> None:
    """Statement 6."""
    async with serve(max_body_bytes=2048) as api, live(api.app) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-a\r\ncontent-type: {MULTIPART}\r\n"
        writer.write(f"{head}content-length: {length}\r\n\r\n".encode() + PROMPT * 100)
        assert f" {status} ".encode() in await reader.readline()
        writer.close()
        assert (await site.http.get(URL)).json()["data"] == []


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"bearer  ", b"key-a", b"Basic a2V5LWE=", b"Bearer \xff\xfe", "Bearer kéy".encode(),
     b"Bearer key-a key-b", b"Bearer key-a,", b"Digest x=y", b"Bearer\tkey-a", b"Bearer " + b"x" * 5000],
)  # fmt: skip
async def test_malformed_credentials_are_401(serve: Opener, value: bytes) -> None:
    """Statement 31."""
    async with serve() as api:
        for method, url in (
            ("GET", URL),
            ("POST", URL),
            ("POST", f"{URL}/sync"),
            ("GET", f"{URL}/video_1/events"),
        ):
            answer = await api.http.request(method, url, headers=[(b"authorization", value)])
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                401,
                "invalid_api_key",
            )
