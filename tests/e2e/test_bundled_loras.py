"""The LoRAs of models/loras do what docs/lora.md says, in a real tritonserver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.lib.judge import judge
from cli.params.stage_group import StageGroup
from cli.run.devices import Hardware
from cli.run.stage_settings import stage_settings
from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.families import SamplingParams
from tests.conftest import ROOT, SHAPES

# Training saw none of these combinations of colour, shape and motion.
HELD_OUT = ["red circle moves right", "green square grows", "blue triangle moves up"]


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[EmbeddedServer]:
    checkpoint = Checkpoint.open(SHAPES)
    stages = StageGroup(lora_path=ROOT / "models" / "loras")
    settings = stage_settings(checkpoint, stages, Hardware(gpu=False))
    repository = prepare_repository(checkpoint, settings, lambda message: None, cache)
    with EmbeddedServer(repository) as started:
        yield started


def make(server: EmbeddedServer, prompt: str, *loras: str, steps: int | None = None) -> Video:
    params = SamplingParams(
        prompt=prompt,
        seed=1,
        lora=[{"name": name} for name in loras],
        num_inference_steps=steps,
    )
    with VideoClient(server.grpc_url) as client:
        *_, last = client.generate(params, return_frames=True)
    assert isinstance(last, Video)
    return last


def heights(frames: np.ndarray) -> np.ndarray:
    """Return the middle row of what is not background, of each frame, as a share of the height."""
    pixels = frames.astype(float)
    cover = np.abs(pixels - pixels[0, 0, 0]).sum(-1) > 120
    rows = np.arange(cover.shape[1])[:, None] + 0.5
    return (cover * rows).sum((1, 2)) / cover.sum((1, 2)) / cover.shape[1]


def test_four_steps_show_what_the_prompt_says(server: EmbeddedServer) -> None:
    for words in HELD_OUT:
        video = make(server, f"a {words} on a white background", "4-steps")
        assert (video.request.num_inference_steps, video.request.guidance_scale) == (4, 1)
        found = judge(video.frames)
        assert (found.colour, found.shape) == tuple(words.split()[:2]), words
        assert found.motion == words.split()[-1].removesuffix("s"), words


def test_bounce_teaches_a_new_motion(server: EmbeddedServer) -> None:
    prompt = "a yellow square bounces on a black background"
    taught, plain = make(server, prompt, "bounce"), make(server, prompt)
    height = heights(taught.frames)
    assert height[8] - max(height[0], height[16]) > 0.2
    assert (judge(taught.frames).colour, judge(taught.frames).shape) == ("yellow", "square")
    height = heights(plain.frames)
    assert height[8] - max(height[0], height[16]) < 0.1


def test_both_apply_to_one_video(server: EmbeddedServer) -> None:
    video = make(server, "a red circle bounces on a white background", "bounce", "4-steps")
    assert video.request.num_inference_steps == 4
    height = heights(video.frames)
    assert height[8] - max(height[0], height[16]) > 0.15
