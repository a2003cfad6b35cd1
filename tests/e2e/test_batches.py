"""Requests that wait together in a real tritonserver run as one batch, and make the videos they
make alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.runtime.embedded import EmbeddedServer
from cli.runtime.stubs import stubs
from cli.runtime.supervisor import SupervisedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import CancelledError, ServerError
from pipeline.families import SamplingParams
from pipeline.families.step_cache.option import StepCache
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.settings import StageSettings
from tests.e2e.metrics import metrics_of
from tests.waiting import wait_for

SLOW = {"num_frames": 81, "width": 128, "height": 128}
"""Its steps take long enough for a request or a cancellation to arrive, also on a busy machine."""
ASKED = (
    {"prompt": "a red circle", "seed": 5},
    {"prompt": "a blue square", "seed": 6, "guidance_scale": 2.0},
)
TABLE = StepCacheTable(ratios=((tuple([0.98] * 10),),))


@pytest.fixture(scope="module")
def batching_repository(patch_checkpoint: Path, cache: Path) -> Path:
    """Batches have up to three requests, which may reuse steps."""
    settings = StageSettings(
        checkpoint=str(patch_checkpoint), batching_max_size=3, step_cache_table=TABLE
    )
    return prepare_repository(
        Checkpoint.open(patch_checkpoint), settings, lambda message: None, cache
    )


@pytest.fixture(scope="module")
def server(batching_repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(batching_repository) as started:
        yield started


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as opened:
        yield opened


def make(
    server: EmbeddedServer | SupervisedServer,
    on_step: Callable[[int], None] = lambda step: None,
    **asked: Any,
) -> Video:
    job_id = asked.pop("job_id", None)
    with VideoClient(server.grpc_url) as client:
        for event in client.generate(SamplingParams(**asked), return_frames=True, job_id=job_id):
            if isinstance(event, Video):
                return event
            assert isinstance(event, Progress)
            if event.stage == "denoise":
                on_step(event.step)
    raise AssertionError("no video")


def metric(server: EmbeddedServer, name: str) -> int:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", metrics_of(server), re.MULTILINE)
    assert found, f"no metric {name}"
    return int(float(found[1]))


def batches(server: EmbeddedServer) -> tuple[int, int]:
    """Batches, and requests in them, so far."""
    return (
        metric(server, "triton_video_denoise_batches_total"),
        metric(server, "triton_video_denoise_batched_requests_total"),
    )


def wait_together(
    server: EmbeddedServer, pool: ThreadPoolExecutor, asked: Sequence[dict[str, Any]]
) -> list[Future]:
    """Hands these requests over while another one runs, and ends that when all wait in ``dit``."""

    def taken() -> int:
        return metric(server, 'nv_inference_exec_count{model="dit",version="1"}')

    before, began = taken(), threading.Event()
    first = pool.submit(
        make,
        server,
        lambda step: began.set(),
        prompt="x",
        num_inference_steps=200,
        job_id=f"long-{before}",
        **SLOW,
    )
    assert began.wait(60)
    futures = [pool.submit(make, server, **each) for each in asked]
    wait_for(lambda: taken() >= before + 1 + len(asked))
    with VideoClient(server.grpc_url) as client:
        client.cancel(f"long-{before}")
    with pytest.raises(CancelledError):
        first.result(60)
    return futures


def close(ours: Video, theirs: Video) -> None:
    """Sums may be taken in another order: a frame may be another level of 255, and no more."""
    assert ours.frames is not None
    assert theirs.frames is not None
    assert ours.frames.std() > 5
    assert np.abs(ours.frames.astype(int) - theirs.frames).max() <= 1
    assert ours.request.sampling() == theirs.request.sampling()


def test_two_waiting_requests_run_as_one_batch_with_the_same_videos(
    server: EmbeddedServer, pool: ThreadPoolExecutor
) -> None:
    alone = [make(server, **asked) for asked in ASKED]
    many, requests = batches(server)
    together = [future.result(60) for future in wait_together(server, pool, ASKED)]
    assert batches(server) == (many + 2, requests + 3), "the one that ran, and the two"
    for ours, theirs in zip(together, alone, strict=True):
        close(ours, theirs)


def test_a_request_joins_a_running_batch_with_the_same_video(
    server: EmbeddedServer, pool: ThreadPoolExecutor
) -> None:
    """It has fewer steps, and so also leaves the batch before the first one is done."""
    first, late = (
        {**ASKED[0], **SLOW, "num_inference_steps": 24},
        {**ASKED[1], **SLOW, "num_inference_steps": 6},
    )
    alone = [make(server, **asked) for asked in (first, late)]
    many, requests = batches(server)
    joined: list[Future[Video]] = []

    def on_step(step: int) -> None:
        if step == 2:
            joined.append(pool.submit(make, server, **late))

    together = make(server, on_step, **first), joined[0].result(60)
    assert batches(server) == (many + 1, requests + 2)
    for ours, theirs in zip(together, alone, strict=True):
        close(ours, theirs)


def test_cancelling_one_of_a_batch_leaves_the_other_running(
    server: EmbeddedServer, pool: ThreadPoolExecutor
) -> None:
    slow = {**SLOW, "num_inference_steps": 20}
    alone = make(server, **ASKED[0], **slow)

    def cancel(step: int) -> None:
        with VideoClient(server.grpc_url) as client:
            client.cancel("second")

    asked = [
        {**ASKED[0], **slow},
        {**ASKED[1], **slow, "job_id": "second", "on_step": cancel},
    ]
    many, requests = batches(server)
    other, cancelled = wait_together(server, pool, asked)
    with pytest.raises(CancelledError, match=r"job second was cancelled before step \d+ of 20"):
        cancelled.result(60)
    close(other.result(60), alone)
    assert batches(server) == (many + 1, requests + 3), "they join the one that ran"
    assert metric(server, "triton_video_rank_group_starts_total") == 1


def test_steps_that_a_request_reuses_are_counted(
    server: EmbeddedServer, pool: ThreadPoolExecutor
) -> None:
    name = "triton_video_denoise_reused_steps_total"
    before, steps = metric(server, name), {"num_inference_steps": 10}
    seen: list[int] = []
    exact = make(server, **ASKED[0], **steps)
    assert metric(server, name) == before
    cached = {**ASKED[0], **steps, "step_cache": "2x"}
    alone = make(server, seen.append, **cached)
    reused = len(StepCache(TABLE).reused_steps("2x", [10]))
    assert reused >= 5
    assert metric(server, name) == before + reused
    assert seen == list(range(11))
    assert alone.request.step_cache == "2x"
    assert not np.array_equal(alone.frames, exact.frames)
    waiting = wait_together(server, pool, [cached, {**ASKED[0], **steps}])
    first, second = (future.result(60) for future in waiting)
    close(first, alone)
    close(second, exact)


def test_a_killed_stage_ends_the_requests_that_it_took(batching_repository: Path) -> None:
    """Triton itself never ends requests that a stub took and did not answer."""
    with SupervisedServer(batching_repository) as server:
        (dit,) = (pid for stage, pid in stubs(server.pid) if stage == "dit")

        def kill(step: int) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dit, signal.SIGKILL)

        def made() -> bool:
            with contextlib.suppress(ServerError):
                return make(server, **ASKED[0]).frames is not None
            return False

        with pytest.raises(ServerError):
            make(server, kill, **ASKED[0], **SLOW, num_inference_steps=200)
        wait_for(made)
