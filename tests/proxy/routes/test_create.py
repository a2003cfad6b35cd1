"""Creating videos: valid and invalid requests, and the servers that cannot take them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2 as httpx
import pytest

from proxy.app import create_app
from proxy.settings import ProxySettings
from tests.proxy.conftest import ERROR_KEYS, Opener, on_both


async def test_form_and_json_create_the_same_job(serve: Opener) -> None:
    async with serve() as api:
        body = {
            "prompt": "a red circle",
            "seconds": "1",
            "size": "64x64",
            "seed": 7,
            "num_inference_steps": 5,
        }
        first = await api.http.post("/v1/videos", json=body)
        second = await api.http.post(
            "/v1/videos", data={k: str(v) for k, v in body.items()}, files=[]
        )
        third = await api.http.post(
            "/v1/videos", files={k: (None, str(v)) for k, v in body.items()}
        )
        alike = [{k: a.json()[k] for k in ("prompt", "seconds", "size", "seed", "num_frames")}
                 for a in (first, second, third)]  # fmt: skip
        assert alike[0] == alike[1] == alike[2]
        assert alike[0]["num_frames"] == 9, (
            "8 frames are not in the model's lattice: the nearest are"
        )


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": 7}, "prompt", "invalid_type"),
        ({"prompt": "\ud800"}, "prompt", None),
        ({"prompt": "a\0b"}, "prompt", None),
        ({"prompt": "x", "seed": "9" * 5000}, "seed", "invalid_value"),
        ({"prompt": "x" * 32_001}, "prompt", "invalid_value"),
        *[
            ({"prompt": "x", "seconds": value}, "seconds", None)
            for value in ("abc", 0, -1, "nan", "inf", 1e9, 3599)
        ],
        *[
            ({"prompt": "x", "size": value}, "size", "invalid_value")
            for value in ("abc", "0x0", "99999x99999", "65x63")
        ],
        ({"prompt": "x", "size": "64x64", "width": 32}, "size", "invalid_value"),
        ({"prompt": "x", "num_frames": 1_000_001}, "num_frames", "invalid_value"),
        ({"prompt": "x", "num_frames": 8}, "num_frames", "invalid_value"),
        ({"prompt": "x", "num_inference_steps": 0}, "num_inference_steps", "invalid_value"),
        ({"prompt": "x", "max_sequence_length": 10**9}, "max_sequence_length", "unknown_parameter"),
        ({"prompt": "x", "sede": 1}, "sede", "unknown_parameter"),
        (
            {"prompt": "x", "input_reference": {"image_url": "http://127.0.0.1/"}},
            "input_reference",
            "invalid_value",
        ),
        ({"prompt": "x", "last_frame": {"image_url": "x"}}, "last_frame", "unsupported_value"),
        ({"prompt": "x", "extra_params": "{"}, "extra_params", "invalid_value"),
        ({"prompt": "x", "seed": 1, "extra_params": {"seed": 2}}, "seed", "invalid_value"),
    ],
)
async def test_invalid_field_is_named(
    serve: Opener, body: dict, param: str, code: str | None
) -> None:
    async with serve() as api:
        # The client's own encoder cannot send every text.
        sent = {"content": json.dumps(body), "headers": {"content-type": "application/json"}}
        answer = await api.http.post("/v1/videos", **sent)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["type"]) == (
            400,
            param,
            "invalid_request_error",
        )
        assert code in (None, error["code"])
        assert error.keys() == ERROR_KEYS
        assert (await api.http.get("/v1/videos")).json()["data"] == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"prompt": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"--x\r\nrubbish", "multipart/form-data; boundary=x", 400),
        (b"rubbish", "multipart/form-data", 400),
        (b"prompt=a&prompt=b", "application/x-www-form-urlencoded", 400),
        (b"<a/>", "text/xml", 415),
        (b"x" * 3000, "application/json", 413),
    ],
)
async def test_malformed_body_is_a_client_error(
    serve: Opener, content: bytes, kind: str, status: int
) -> None:
    limit = 2048 if status == 413 else 1 << 20
    async with serve(max_body_bytes=limit) as api:
        answer = await api.http.post("/v1/videos", content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"].keys()) == (status, ERROR_KEYS)


async def test_unknown_model_is_refused(serve: Opener) -> None:
    """/v1/models lists exactly what create takes."""
    async with serve() as api:
        answer = await api.http.post("/v1/videos", json={"prompt": "x", "model": "sora-2"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert [m["id"] for m in (await api.http.get("/v1/models")).json()["data"]] == ["shapes"]
        assert (await api.create(model="shapes"))["model"] == "shapes"


async def test_create_before_any_triton_answered_is_503(tmp_path: Path) -> None:
    """No model is known yet."""
    app = create_app(ProxySettings(data_path=tmp_path), ["127.0.0.1:1"], [])
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        answer = await http.post("/v1/videos", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            503,
            "backend_unavailable",
        )
        assert answer.headers["retry-after"] == "5"


@on_both
async def test_full_queue_is_429(serve: Opener) -> None:
    async with serve(max_queued=2, worker=False) as api:
        for _ in range(2):
            await api.create()
        answer = await api.http.post("/v1/videos", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "10"
        assert len((await api.http.get("/v1/videos")).json()["data"]) == 2


@on_both
async def test_metadata_is_kept_and_returned(serve: Opener) -> None:
    kept = {"run": "a\0é", "try": 7, "share": 0.5, "draft": True, "": ""}
    async with serve() as api:
        created = await api.create(metadata=kept, user="user-1")
        assert created["metadata"] == kept
        assert (await api.wait(created["id"]))["metadata"] == kept
        listed = (await api.http.get("/v1/videos")).json()["data"]
        assert [video["metadata"] for video in listed] == [kept]
        form = {"prompt": "x", "metadata[run]": "a", "metadata[try]": "7", "user": "user-1"}
        answer = await api.http.post("/v1/videos", data=form)
        assert answer.json()["metadata"] == {"run": "a", "try": "7"}
        assert (await api.create())["metadata"] is None
