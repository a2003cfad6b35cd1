"""The exact limits of a create request: which body is still accepted, which field wins."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.proxy.conftest import Opener

LIMIT = 2048
HEADERS = {"content-type": "application/json"}


def body_of(size: int) -> bytes:
    """A create request of exactly ``size`` bytes."""
    bare = len(json.dumps({"prompt": ""}))
    return json.dumps({"prompt": "x" * (size - bare)}).encode()


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100):
        yield content[start : start + 100]


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_of_exactly_the_limit_is_accepted(serve: Opener, chunked: bool) -> None:
    async with serve(max_body_bytes=LIMIT) as api:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
            content = body_of(size)
            assert len(content) == size
            answer = await api.http.post(
                "/v1/videos", content=chunks(content) if chunked else content, headers=HEADERS
            )
            assert answer.status_code == status, answer.text


async def test_num_frames_wins_over_seconds(serve: Opener) -> None:
    async with serve() as api:
        both = await api.create(seconds=4, num_frames=9, fps=8)
        frames = await api.create(num_frames=9, fps=8)
        seconds = await api.create(seconds=4, fps=8)
        made = [(await api.wait(video["id"]))["seconds"] for video in (both, frames, seconds)]
        assert made[0] == made[1] != made[2]
