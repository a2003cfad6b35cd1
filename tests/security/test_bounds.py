"""Requests that are too large for the machine: how they get in, and how they are stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Progress, VideoClient
from pipeline.errors import CancelledError, InputError
from pipeline.families import Bounds, SamplingParams
from pipeline.settings import StageSettings

# ruff: noqa: F401, F811 - fixtures of tests.proxy
from tests.proxy.conftest import Opener, _no_waiting_for_the_disk, info, serve, stores

After = Callable[[str], None]
BEYOND: tuple[dict[str, Any], ...] = (
    {"size": "128x128"},
    {"num_frames": 21},
    {"num_inference_steps": 31},
    {"size": "96x96", "num_inference_steps": 30},
)
BOUNDS = Bounds(max_pixels=96 * 96, max_frames=17, max_steps=30, max_cost=96 * 64 * 17 * 30)
FLAGS = ("--max-pixels", "--max-frames", "--max-steps", "--max-cost")


@pytest.mark.attack(
    "the API is asked for a video that takes days", "queued: only the model's own bounds counted"
)
async def test_a_request_beyond_the_limits_is_refused_before_it_is_queued(
    serve: Opener, after: After
) -> None:
    messages: list[str] = []

    async with serve(**BOUNDS.model_dump()) as api:
        for body, flag in zip(BEYOND, FLAGS, strict=True):
            answer = await api.http.post("/v1/videos", json={"prompt": "x", **body})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "invalid_value")
            assert error["param"] in body
            assert flag in error["message"]
            messages.append(error["message"])
        assert (await api.http.get("/v1/videos")).json()["data"] == []
        assert (await api.wait((await api.create())["id"]))["status"] == "completed"
        after(f"400, before it is queued: {messages[-1]}")


@pytest.fixture(scope="module")
def bounded_triton(patch_checkpoint: Path, cache: Path) -> Iterator[EmbeddedServer]:
    settings = StageSettings(
        checkpoint=str(patch_checkpoint), threads=1, bounds=Bounds(max_steps=30)
    )
    repository = prepare_repository(
        Checkpoint.open(patch_checkpoint), settings, lambda message: None, cache
    )
    with EmbeddedServer(repository) as server:
        yield server


@pytest.mark.server
@pytest.mark.attack(
    "a Triton client goes around the API's limits", "nothing was checked but the model's own bounds"
)
def test_triton_enforces_the_limits_itself(bounded_triton: EmbeddedServer, after: After) -> None:
    params = SamplingParams(prompt="x", num_inference_steps=31)
    with VideoClient(bounded_triton.grpc_url) as client, pytest.raises(InputError) as refusal:
        list(client.generate(params))
    assert "--max-steps" in str(refusal.value)
    after(f"the tokenizer refuses it: {refusal.value}")


@pytest.mark.server
@pytest.mark.attack(
    "a step of a large video takes minutes on a CPU",
    "it could not be cancelled before the step's end",
)
def test_a_cancellation_takes_effect_within_a_step(
    bounded_triton: EmbeddedServer, after: After
) -> None:
    # A step of 6 seconds in one thread.
    params = SamplingParams(prompt="x", height=512, width=512, num_frames=65, num_inference_steps=2)
    with VideoClient(bounded_triton.grpc_url) as client:
        stream = client.generate(params, job_id="large")
        first = next(stream)
        assert isinstance(first, Progress)
        assert first.step == 0
        begin = time.monotonic()
        client.cancel("large")
        with pytest.raises(CancelledError, match="before step 0 of 2"):
            next(stream)
        waited = time.monotonic() - begin
        assert client.status()["dit"]["jobs"] == {}
    after(f"cancelled after {waited:.1f} s, with its first step not finished")
