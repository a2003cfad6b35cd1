"""HunyuanVideo through a real Triton: two text encoders, and frames as its diffusers pipeline
makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers import HunyuanVideoPipeline

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.decoders import frames_to_uint8
from pipeline.errors import InputError
from pipeline.families import SamplingParams
from tests.diffusers_call import call_diffusers
from tests.e2e.engines import settings_for

PROMPT = "a red circle moves right"


@pytest.fixture(scope="module")
def hunyuan(build_family: Callable[[str], Path]) -> Path:
    return build_family("hunyuan-video")


@pytest.mark.parametrize("engine", ["graph", "torch"])
def test_frames_equal_those_of_diffusers(hunyuan: Path, cache: Path, engine: str) -> None:
    settings = settings_for(hunyuan, engine)
    repository = prepare_repository(Checkpoint.open(hunyuan), settings, lambda text: None, cache)
    assert any(repository.rglob("*.onnx")) == (engine == "graph")
    with EmbeddedServer(repository) as server, VideoClient(server.grpc_url) as client:
        *_, made = client.generate(SamplingParams(prompt=PROMPT, seed=5), return_frames=True)
        with pytest.raises(
            InputError, match="negative_prompt: has no effect on hunyuan-video models"
        ):
            list(client.generate(SamplingParams(prompt=PROMPT, negative_prompt="ugly")))
    assert isinstance(made, Video)
    assert made.frames is not None
    theirs = reference(hunyuan, made)
    assert theirs.std() > 5
    # One level of 255: what is 1e-3 apart may be rounded to either side.
    assert np.abs(made.frames.astype(int) - theirs.astype(int)).max() <= 1


def reference(checkpoint: Path, made: Video) -> np.ndarray:
    pipeline = HunyuanVideoPipeline.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    frames = call_diffusers(pipeline, made.request, "np", prompt=PROMPT, max_sequence_length=20)
    return frames_to_uint8(frames[0])
