"""An image passes through the encoder's two graphs. tests/e2e/test_image_to_video.py compares their
results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import CancelledError
from pipeline.families import ModelInfo, SamplingParams
from pipeline.settings import StageSettings
from pipeline.stages import vae_encoder
from pipeline.stages.vae_encoder import VaeEncoderStage


class Counting:
    """A graph whose latents are the mean of its frames, and whose cache counts the runs."""

    def __init__(self, frames: int) -> None:
        self.inputs = {"frames": [frames, "height", "width", 3], "cache_0": [1]}
        self.seen: list[np.ndarray] = []

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        assert list(outputs) == ["latents", "new_cache_0"]
        self.seen.append(feeds["frames"])
        count = feeds.get("cache_0", np.zeros(1)) + 1
        return [np.full((1, 1, 1, 1, 1), feeds["frames"].mean(), np.float32), count]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counting]:
    made = {"first": Counting(1), "next": Counting(4)}
    monkeypatch.setattr(vae_encoder, "open_graph", lambda folder, name, threads: made[name])
    return made


def stage(info: ModelInfo, folder: Path, family: str) -> VaeEncoderStage:
    info.model_copy(update={"family": family}).save(folder)
    return VaeEncoderStage(folder, StageSettings(checkpoint="unused"))


@pytest.fixture
def info() -> ModelInfo:
    from pipeline.checkpoint.folder import Checkpoint
    from tests.conftest import SHAPES

    return Checkpoint.open(SHAPES).info


IMAGES = {"IMAGE": np.full((1, 8, 8, 3), 255, np.uint8)}


def test_a_clip_is_the_image_followed_by_grey_frames(
    info: ModelInfo, tmp_path: Path, graphs: dict[str, Counting]
) -> None:
    request = info.resolve(SamplingParams(prompt="x", num_frames=9))
    runs: list[tuple[int, int]] = []
    latents = stage(info, tmp_path, "wan2.1-i2v").run(
        request, IMAGES, lambda *run: runs.append(run)
    )
    assert latents is not None
    assert latents.ravel().tolist() == [1.0, 0.5, 0.5]
    assert runs == [(0, 3), (1, 3), (2, 3)]
    assert [frames.shape for frames in graphs["next"].seen] == [(4, 8, 8, 3)] * 2


@pytest.mark.parametrize("given", [IMAGES, IMAGES["IMAGE"]], ids=["files", "before"])
def test_a_first_frame_is_encoded_alone(
    info: ModelInfo, tmp_path: Path, graphs: dict[str, Counting], given: Any
) -> None:
    """A repository that was rendered before a request had other files passes the image."""
    request = info.resolve(SamplingParams(prompt="x", num_frames=9))
    latents = stage(info, tmp_path, "wan2.2-ti2v").run(request, given, lambda *run: None)
    assert latents is not None
    assert (latents.ravel().tolist(), graphs["next"].seen) == ([1.0], [])


def test_cancel_stops_between_two_runs(
    info: ModelInfo, tmp_path: Path, graphs: dict[str, Counting]
) -> None:
    def stop(run: int, total: int) -> None:
        if run == 1:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        stage(info, tmp_path, "wan2.1-i2v").run(
            info.resolve(SamplingParams(prompt="x")), IMAGES, stop
        )
    assert graphs["next"].seen == []
