"""Unsupported operations, whose names must not be taken for video ids."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.conftest import Opener

FILE = {"files": {"video": ("../../etc/passwd", b"\0\0\0\x18ftyp", "video/mp4")}}


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "characters", FILE | {"data": {"name": "x"}}),
        ("GET", "characters/char_1", {}),
    ],
)
async def test_unsupported_operation_is_400(
    serve: Opener, method: str, path: str, sent: dict[str, Any]
) -> None:
    async with serve() as api:
        answer = await api.http.request(method, f"/v1/videos/{path}", **sent)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "unsupported_operation")
        assert (error["type"], answer.headers["x-should-retry"]) == (
            "invalid_request_error",
            "false",
        )
        closed = await api.http.request(
            method, f"/v1/videos/{path}", headers={"authorization": ""}, **sent
        )
        assert closed.status_code == 401


@pytest.mark.parametrize("path", ["characters"])
async def test_body_of_an_unsupported_operation_is_validated(serve: Opener, path: str) -> None:
    async with serve(max_body_bytes=2048) as api:
        for content, status in ((b"{", 400), (b"x" * 3000, 413)):
            headers = {"content-type": "application/json"}
            answer = await api.http.post(f"/v1/videos/{path}", content=content, headers=headers)
            assert (
                answer.status_code,
                answer.json()["error"]["code"] != "unsupported_operation",
            ) == (status, True)


@pytest.mark.parametrize("path", ["edits", "extensions", "characters", "sync"])
async def test_route_names_are_not_video_ids(serve: Opener, path: str) -> None:
    async with serve() as api:
        for method in ("GET", "DELETE"):
            answer = await api.http.request(method, f"/v1/videos/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                405,
                "method_not_allowed",
            )
