"""Malformed bodies and invalid fields: refused with the field at fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.conftest import Api, Opener
from tests.proxy.forms import END, FILE, JSON, MULTIPART, PROMPT, URL, URLENCODED, part

LONG_URL = "data:image/png;base64," + "A" * 100_000


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
    async with serve() as api:
        assert (await refused(api, content, kind))["code"] == "invalid_form"


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", "base64", "utf-16", "unicode_escape", "no-such"]
)
async def test_charset_of_a_form_is_ignored(serve: Opener, charset: str) -> None:
    """Some of Python's codecs take minutes for a megabyte, or raise unusual errors."""
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
    """curl -d sends it so."""
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
    async with serve() as api:
        assert (await refused(api, content, kind))["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("seconds", value) for value in (True, "", "4s", [], {}, "-inf", 2**80, "1e999")],
        *[("size", value) for value in ("64*64", " 64x64", "64x64\n", "-64x64", "064x64")],
        *[("size", value) for value in ("６４x64", "", 64, [], True)],
        *[("seed", value) for value in (2**80, 2**63, -2, 1.5, 1e300, True, "0x10", "١٢x")],
        *[("num_frames", value) for value in (1_000_001, 0, -3, 9.5, 2**80, True, "nine", 1e300)],
        *[("width", value) for value in (65, 63, 0, -1, 2**80, True)],
        *[("height", value) for value in (65, 63, 0, -1, 2**80, True)],
        *[("fps", value) for value in (0, 10**9, 8.5, 2**80, True)],
        *[("num_inference_steps", value) for value in (10**9, -1, True, "x")],
        *[("guidance_scale", value) for value in ("nan", "inf", -1, 1e9, True)],
        *[("flow_shift", value) for value in (0, -1, "nan", True)],
        *[("negative_prompt", value) for value in (7, "x" * 40_000, "\0", "\ud800", True)],
        *[("model", value) for value in (7, [], {}, True)],
        *[("metadata", value) for value in (7, [], True, {"a": []}, {"a": "x" * 513})],
        *[("metadata", value) for value in ({"x" * 65: 1}, {"\ud800": 1}, {"a": "\ud800"})],
        ("metadata", {str(number): 1 for number in range(17)}),
        *[("aspect_ratio", value) for value in (1.5, "", "16x9", "0:9", "1:33", "9999:1", True)],
        *[("resolution", value) for value in (720, "", "720", "0p", "9p", "hd", "99999p", True)],
        *[("boundary_ratio", value) for value in (-0.1, 1.1, "x", True, 0.5)],
        *[("true_cfg_scale", value) for value in (-1, 101, "x", True, 9.5)],
        *[("user", value) for value in (7, [], True, "x" * 513, "\0")],
        *[("extra_params", value) for value in (7, "[]", "", "x", [1])],
        ("max_sequence_length", 10**9),
        *[("step_cache", value) for value in ("3x", "", 2, True, "table=a.json,threshold=1")],
    ],
)  # fmt: skip
async def test_impossible_value_is_refused_by_name(serve: Opener, field: str, value: Any) -> None:
    """The error names the parameter, whichever it is."""
    async with serve() as api:
        error = await refused(api, json.dumps({"prompt": "x", field: value}).encode(), JSON)
        assert error["param"] == field
        if field not in ("extra_params", "model"):
            extra = {"prompt": "x", "extra_params": {field: value}}
            assert (await refused(api, json.dumps(extra).encode(), JSON))["param"] == field


async def test_number_may_be_text(serve: Opener) -> None:
    async with serve() as api:
        made = [await api.create(seconds=value) for value in ("4", 4, 4.0, "4.0")]
        assert {video["seconds"] for video in made} == {"4.125"}
