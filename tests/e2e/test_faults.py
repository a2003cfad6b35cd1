"""Faults while a real tritonserver makes a video: what the caller is told, and that the next
request is served.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from cli.runtime.embedded import EmbeddedServer
from pipeline.client import Progress, Video, VideoClient
from pipeline.errors import CancelledError
from pipeline.families import SamplingParams
from tests.e2e.metrics import metrics_of

FRAMES = 161  # 41 latent frames: the decoder is at work for a while


def ranks(server: EmbeddedServer) -> dict[str, float]:
    text = metrics_of(server)
    names = ("triton_video_ranks_alive", "triton_video_rank_group_starts_total")
    return {
        name: float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)[1])
        for name in names
    }


def events(client: VideoClient, **values: Any) -> list[Progress | Video]:
    return list(
        client.generate(
            SamplingParams(**{"prompt": "a red circle", "num_inference_steps": 2, **values})
        )
    )


@pytest.mark.parametrize("chunk", [0, 2])
def test_cancellation_stops_the_decoder(server: EmbeddedServer, chunk: int) -> None:
    before, seen, name = ranks(server), [], f"decoded-{chunk}"
    with VideoClient(server.grpc_url) as client, VideoClient(server.grpc_url) as other:
        sampling = SamplingParams(prompt="a red circle", num_inference_steps=2, num_frames=FRAMES)
        cancelled: dict[str, Any] = {}
        message = rf"job {name} was cancelled before step \d+ of 41"
        with pytest.raises(CancelledError, match=message):  # noqa: PT012
            for event in client.generate(sampling, job_id=name):
                seen.append(event)
                if not cancelled and event == Progress("decode", chunk, 41):
                    cancelled = other.cancel(name)
        assert cancelled["vae_decoder"]["running"], "it was the decoder that worked"
        assert cancelled["dit"]["running"] is None
        assert all(isinstance(event, Progress) for event in seen), "no video is delivered"
        assert len(seen) < 3 + 41, "it was stopped in the middle"
        assert not any(stage["jobs"] for stage in client.status().values())
        assert isinstance(events(client)[-1], Video), "the next request is served"
    assert ranks(server) == before, "no rank was replaced"


def test_ranks_keep_working_while_a_cancelled_video_is_decoded(server: EmbeddedServer) -> None:
    """The two stages have a request each: cancelling the one in the decoder leaves the one in
    ``dit`` alone.
    """
    decoding, done = threading.Event(), []

    def second() -> None:
        assert decoding.wait(30)
        with VideoClient(server.grpc_url) as client:
            done.extend(events(client, num_inference_steps=20, seed=3))

    thread = threading.Thread(target=second)
    thread.start()
    with VideoClient(server.grpc_url) as client, pytest.raises(CancelledError):  # noqa: PT012
        sampling = SamplingParams(prompt="x", num_inference_steps=2, num_frames=FRAMES)
        for event in client.generate(sampling, job_id="decoded"):
            if event == Progress("decode", 1, 41):
                decoding.set()
            if isinstance(event, Progress) and event.stage == "decode" and event.step == 3:
                client.cancel("decoded")
    thread.join(60)
    assert isinstance(done[-1], Video)
    assert done[-1].request.seed == 3


def test_progress_arrives_step_by_step_while_another_video_is_decoded(
    server: EmbeddedServer,
) -> None:
    """And the decoder has one video at a time."""
    seen: list[tuple[str, Progress | Video]] = []
    decoding = threading.Event()

    def note(name: str, **values: Any) -> None:
        sampling = SamplingParams(**{"prompt": "x", "width": 256, "height": 256, **values})
        with VideoClient(server.grpc_url) as client:
            for event in client.generate(sampling):
                seen.append((name, event))
                if event == Progress("decode", 1, 41):
                    decoding.set()

    first = threading.Thread(
        target=note, args=("first",), kwargs={"num_inference_steps": 1, "num_frames": FRAMES}
    )
    first.start()
    assert decoding.wait(60)
    note("next", num_inference_steps=5, num_frames=5)
    first.join(60)
    steps = [seen.index(("next", Progress("denoise", step, 5))) for step in range(6)]
    done = seen.index(("first", Progress("decode", 41, 41)))
    assert steps == sorted(steps)
    assert steps[-1] < done, "all steps were reported while the first was decoded"
    assert done < seen.index(("next", Progress("decode", 0, 2)))
    assert [isinstance(event, Video) for _, event in seen].count(True) == 2
