"""The async client handles failures that a real Triton server cannot be made to produce on cue."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.families import SamplingParams


class Broken:
    """A stream that raises UNAVAILABLE on the first read, as a lost connection does."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise AioRpcError(
            grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "Stream removed (Socket closed)"
        )

    def cancel(self) -> None: ...


def test_a_connection_lost_mid_stream_raises_server_error(monkeypatch):
    async def scenario() -> None:
        async with AsyncVideoClient("127.0.0.1:1") as client:
            monkeypatch.setattr(client._grpc, "stream_infer", lambda requests, headers: Broken())
            with pytest.raises(ServerError, match="lost the Triton"):
                async for _ in client.generate(SamplingParams(prompt="x"), job_id="1"):
                    pass

    asyncio.run(scenario())
