"""Who is let in by the header ``Authorization``, and as whom."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import ApiError
from proxy.keys import ANYONE, Keys
from tests.proxy.conftest import Opener

KEYS = Keys(["key-a", "key-b"])


def test_every_key_is_an_owner() -> None:
    mine, other = KEYS.owner("Bearer key-a"), KEYS.owner("Bearer key-b")
    assert mine != other
    assert len(mine) == len(other) == 32
    assert Keys(["key-b"]).owner("Bearer key-b") == other, "whatever other keys there are"
    assert "key" not in mine


@pytest.mark.parametrize("header", ["bearer key-a", "BEARER key-a", "Bearer  key-a "])
def test_spellings_of_the_scheme(header: str) -> None:
    assert KEYS.owner(header) == KEYS.owner("Bearer key-a")


@pytest.mark.parametrize(
    "header",
    ["Bearer key-c", "Bearer key", "Bearer key-aa", "Bearer KEY-A", "Basic key-a", "key-a",
     "Bearer key-a key-b", "Bearerkey-a", "Bearer key-a\0"],
)  # fmt: skip
def test_other_keys_and_schemes_are_refused(header: str) -> None:
    with pytest.raises(ApiError) as caught:
        KEYS.owner(header)
    assert caught.value.status == 401
    assert caught.value.headers["www-authenticate"] == "Bearer"
    body: Any = caught.value.body
    assert body["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "You didn't provide an API key"),
        ("", "You didn't provide an API key"),
        ("Bearer", "You didn't provide an API key"),
        ("Bearer ", "You didn't provide an API key"),
        ("Bearer key-c", "Incorrect API key provided."),
    ],
)
def test_message_tells_a_missing_key_from_a_wrong_one(header: str | None, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        KEYS.owner(header)
    assert caught.value.status == 401
    body: Any = caught.value.body
    assert body["error"]["message"].startswith(message)


@pytest.mark.parametrize("header", [None, "", "Bearer anything", "Basic x"])
def test_without_keys_everybody_is_one_owner(header: str | None) -> None:
    assert Keys([]).owner(header) == ANYONE


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"bearer  ", b"key-a", b"Basic a2V5LWE=", b"Bearer \xff\xfe",
     "Bearer kéy".encode(),
     b"Bearer key-a key-b", b"Bearer key-a,", b"Digest x=y", b"Bearer\tkey-a",
     b"Bearer " + b"x" * 5000],
)  # fmt: skip
async def test_malformed_credentials_are_401(serve: Opener, value: bytes) -> None:
    async with serve() as api:
        for method, url in (
            ("GET", "/v1/videos"),
            ("POST", "/v1/videos"),
            ("POST", "/v1/videos/sync"),
            ("GET", "/v1/videos/video_1/events"),
        ):
            answer = await api.http.request(method, url, headers=[(b"authorization", value)])
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                401,
                "invalid_api_key",
            )
