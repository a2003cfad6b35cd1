"""The text encoder of a real tritonserver on ranks of its own: the frames of the one that is a
graph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cli.runtime.embedded import EmbeddedServer
from export.repository import prepare_repository
from pipeline.checkpoint.folder import Checkpoint
from pipeline.client import Video, VideoClient
from pipeline.families import SamplingParams
from pipeline.settings import StageSettings


def frames(server: EmbeddedServer) -> np.ndarray:
    params = SamplingParams(prompt="a red circle moves right", negative_prompt="blue", seed=3)
    with VideoClient(server.grpc_url) as client:
        *_, made = client.generate(params, return_frames=True)
    assert isinstance(made, Video)
    assert made.frames is not None
    return made.frames.astype(int)


def test_frames_equal_those_of_one_rank(
    server: EmbeddedServer, patch_checkpoint: Path, cache: Path
) -> None:
    settings = StageSettings(checkpoint=str(patch_checkpoint), tp_size=3, threads=1)
    repository = prepare_repository(
        Checkpoint.open(patch_checkpoint), settings, lambda text: None, cache
    )
    with EmbeddedServer(repository) as on_ranks:
        ours = frames(on_ranks)
    # One level of 255: what is a little apart may be rounded to either side.
    assert np.abs(ours - frames(server)).max() <= 1
