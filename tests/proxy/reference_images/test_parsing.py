"""Every form of ``input_reference`` over HTTP, with and without a model that takes images."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from pipeline.families import ModelInfo
from pipeline.media.reference_image import decode
from proxy.data_url import LONG_TEXT_BYTES
from proxy.reference_images.reading import ReferenceImage, ReferenceImages
from proxy.request_files import FileReader
from tests.proxy.conftest import Api, Opener

URL = "/v1/videos"
OCTETS = "application/octet-stream"


def png(colour: str = "red", size: tuple[int, int] = (20, 10)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(data).decode()


@pytest.fixture
def info(info: ModelInfo, request: pytest.FixtureRequest) -> ModelInfo:
    return info.model_copy(update={"image": getattr(request, "param", "optional")})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[ReferenceImage]:
    """The images that were read, in order."""
    images: list[ReferenceImage] = []
    inner = ReferenceImages.read

    async def recorded(self: ReferenceImages, reference: Any, field: str) -> ReferenceImage:
        images.append(await inner(self, reference, field))
        return images[-1]

    monkeypatch.setattr(ReferenceImages, "read", recorded)
    return images


@asynccontextmanager
async def site(body: bytes, status: str = "200 OK", *headers: str) -> AsyncIterator[str]:
    """Run a web server on loopback with one response; yield its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            "\r\n".join(
                [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
            ).encode()
        )
        writer.write(body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/image"


def let_links_into_private_networks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the links of these tests, which lead to loopback."""
    images = ReferenceImages(allow_private=True)
    monkeypatch.setattr(api.app.context.videos, "_files", FileReader(images))


async def refused(api: Api, code: str = "invalid_value", **sent: Any) -> str:
    answer = await api.http.post(URL, **sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "input_reference", code), (
        error
    )
    assert (await api.http.get(URL)).json()["data"] == []
    return error["message"]


async def test_five_forms_of_an_image_make_the_same_job(
    serve: Opener, read: list[ReferenceImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = png()
    async with serve() as api, site(image) as link:
        let_links_into_private_networks(api, monkeypatch)
        forms: list[dict[str, Any]] = [
            {
                "data": {"prompt": "x"},
                "files": {"input_reference": ("upload", image, OCTETS)},
            },
            {"json": {"prompt": "x", "input_reference": {"image_url": link}}},
            {
                "json": {
                    "prompt": "x",
                    "input_reference": {"image_url": data_url(image), "file_id": None},
                }
            },
            {
                "files": {
                    "prompt": (None, "x"),
                    "input_reference[image_url]": (None, data_url(image)),
                }
            },
            {"files": {"prompt": (None, "x"), "input_reference[image_url]": (None, link)}},
            {
                "data": {"prompt": "x"},
                "files": {"input_reference": ("../../etc/x.mp4", image, "video/mp4")},
            },
            {"json": {"prompt": "x", "extra_params": {"input_reference": {"image_url": link}}}},
        ]
        headers = {"idempotency-key": "once"}
        answers = [await api.http.post(URL, headers=headers, **form) for form in forms[:-1]]
        assert [answer.status_code for answer in answers] == [200] * (len(forms) - 1)
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert (await api.http.post(URL, **forms[-1])).status_code == 200
        assert len(read) == len(forms)
        assert len(set(read)) == 1
        assert (read[0].data, read[0].size, decode(image).rgb[:3]) == (
            image,
            (20, 10),
            b"\xff\0\0",
        )
        other = {"prompt": "x", "input_reference": {"image_url": data_url(png("blue"))}}
        answer = await api.http.post(URL, headers=headers, json=other)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            409,
            "idempotency_conflict",
        )


async def test_large_data_url_in_a_form_is_accepted(
    serve: Opener, read: list[ReferenceImage]
) -> None:
    """Five megabytes, where a form part usually ends at one."""
    async with serve() as api:
        text = data_url(png() + bytes(4_000_000))
        assert len(text) > 5_000_000
        answer = await api.http.post(
            URL, files={"prompt": (None, "x"), "input_reference[image_url]": (None, text)}
        )
        assert answer.status_code == 200
        assert len(read) == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "invalid_value"),
        ({"image_url": None}, "invalid_value"),
        ({"image_url": "data:image/png;base64,", "file_id": "file_1"}, "invalid_value"),
        ({"file_id": "file_1"}, "invalid_value"),
        ({"image": "x"}, "unknown_parameter"),
        ({"\ud800": "x"}, "unknown_parameter"),
        ("x", "invalid_value"),
        ("{", "invalid_value"),
        ("[]", "invalid_value"),
        ([], "invalid_value"),
        ([{"image_url": "data:,"}, {"image_url": "data:,"}], "invalid_value"),
        (7, "invalid_type"),
        (True, "invalid_type"),
        ({"image_url": 7}, "invalid_type"),
        ({"image_url": {"url": 7}}, "invalid_type"),
        ({"image_url": {}}, "invalid_type"),
        ({"image_url": {"url": "x"}}, "invalid_value"),
        *[
            ({"image_url": url}, "invalid_value")
            for url in (
                "", "x", "file:///etc/passwd", "FILE:/etc/passwd", "ftp://example.com/",
                "javascript:1", "//host/x",
                "http://", "http:///x", "http://a b/", "http://\ud800/", "http://127.0.0.1\n/",
                "http://[::1", "http://x:y/",
                "http://" + "x" * 9000, "data:image/png,rubbish", "data:image/png;base64",
                "data:;base64,%%%",
                "data:image/png;base64,iVBORw0KGgo", "data:image/png;base64,\ud800",
                "data:;base64," + "A" * 21_000_000,
                "data:image/svg+xml;base64,PHN2Zy8+",
            )
        ],
    ],
)  # fmt: skip
async def test_invalid_reference_is_refused(serve: Opener, value: Any, code: str) -> None:
    async with serve() as api:
        body = json.dumps({"prompt": "x", "input_reference": value})
        await refused(api, code, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("bad", ["%", " ", "é", "\n", '"', "A=A"])
async def test_invalid_long_data_url_is_refused_by_its_field(serve: Opener, bad: str) -> None:
    url = data_url(bytes(LONG_TEXT_BYTES)) + bad
    forms: list[dict[str, Any]] = [
        {"json": {"prompt": "x", "input_reference": {"image_url": url}}},
        {"json": {"prompt": "x", "extra_params": {"input_reference": url}}},
        {"data": {"prompt": "x", "input_reference": url}},
        {"data": {"prompt": "x", "input_reference[image_url]": url}},
        {"files": {"prompt": (None, "x"), "input_reference": (None, url)}},
        {"files": {"prompt": (None, "x"), "input_reference": (None, json.dumps([url]))}},
    ]
    async with serve() as api:
        for form in forms:
            assert "not valid base64" in await refused(api, **form)


@pytest.mark.parametrize(
    "files",
    [
        {"input_reference[image_url]": (None, "data:,"), "input_reference[file_id]": (None, "f")},
        {"input_reference[file_id]": (None, "file_1")},
        {
            "input_reference": ("x.png", b"rubbish", "image/png"),
            "input_reference[file_id]": (None, "f"),
        },
        {"input_reference": ("x.png", b"rubbish", "image/png")},
        {"input_reference": ("x.png", b"", "image/png")},
    ],
)
async def test_invalid_reference_in_a_form_is_refused(serve: Opener, files: dict[str, Any]) -> None:
    async with serve() as api:
        await refused(api, files=files | {"prompt": (None, "x")})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "169.254.169.254", "10.0.0.1", "[::1]"]
)
async def test_link_to_a_private_address_is_refused(serve: Opener, host: str) -> None:
    async with serve() as api:
        reference = {"image_url": f"http://{host}/x.png"}
        message = await refused(api, json={"prompt": "x", "input_reference": reference})
        assert "public address" in message


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"rubbish", "200 OK", ()),
        (b"", "200 OK", ()),
        (png(), "404 Not Found", ()),
        (png(), "200 OK", ("content-encoding: gzip",)),
        (b"", "302 Found", ("location: file:///etc/passwd",)),
        (b"", "302 Found", ("location: /again",)),
        (b"x" * ((20 << 20) + 1), "200 OK", ()),
    ],
)
async def test_link_without_an_image_is_refused(
    serve: Opener,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    status: str,
    headers: tuple[str, ...],
) -> None:
    async with serve() as api, site(body, status, *headers) as link:
        let_links_into_private_networks(api, monkeypatch)
        await refused(api, json={"prompt": "x", "input_reference": {"image_url": link}})


@pytest.mark.parametrize("info", ["refused"], indirect=True)
@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"prompt": "x", "input_reference": {"image_url": "data:,"}}},
        {"json": {"prompt": "x", "input_reference": {"file_id": "file_1"}}},
        {"json": {"prompt": "x", "input_reference": 7}},
        {"data": {"prompt": "x", "input_reference[image_url]": "http://127.0.0.1:1/"}},
        {
            "data": {"prompt": "x"},
            "files": {"input_reference": ("upload", png(), "application/octet-stream")},
        },
    ],
)
async def test_text_to_video_model_refuses_an_image_unread(
    serve: Opener, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReferenceImages, "read", lambda *_: pytest.fail("the image was read"))

    async with serve() as api:
        await refused(api, "unsupported_value", **sent)
