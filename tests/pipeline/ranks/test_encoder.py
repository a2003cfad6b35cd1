"""A text encoder on several ranks gives the embeddings of one rank, and lost ranks are replaced."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.ranks.encoder import KINDS, load
from pipeline.ranks.group import RankGroup, Timeouts
from pipeline.ranks.process import RankLostError
from tests.conftest import SHAPES
from tests.hostile_checkpoints import keep_tensors
from tests.needs import exhaustive
from tests.pipeline.ranks.groups import pids, settings

TIMEOUTS = Timeouts(startup=120, heartbeat=15, step=60)
pytestmark = pytest.mark.ranks


def ids(checkpoint: Checkpoint, length: int) -> dict[str, np.ndarray]:
    vocabulary = checkpoint.configs["text_encoder"]["vocab_size"]
    given = np.random.default_rng(length).integers(0, vocabulary, (1, length))
    return {"INPUT_IDS": given, "ATTENTION_MASK": np.ones_like(given)}


def alone(checkpoint: Checkpoint, given: dict[str, np.ndarray]) -> np.ndarray:
    model = load(checkpoint, "text_encoder", torch.float32)
    tensors = (torch.from_numpy(given[name]) for name in ("INPUT_IDS", "ATTENTION_MASK"))
    with torch.inference_mode():
        return KINDS["text_encoder"].call(model, *tensors).numpy()


def group(path: Path, ranks: int) -> RankGroup:
    return RankGroup(settings(path, tp_size=ranks), TIMEOUTS, part="text_encoder")


@pytest.mark.parametrize(
    ("family", "ranks"),
    [("shapes", 2), exhaustive("shapes", 4), exhaustive("wan2.2-t2v", 3), ("hunyuan-video", 2)],
)
def test_embeddings_equal_those_of_one_rank(
    build_family: Callable[[str], Path], family: str, ranks: int
) -> None:
    path = SHAPES if family == "shapes" else build_family(family)
    checkpoint = Checkpoint.open(path)
    with group(path, ranks) as encoder:
        for length in (1, 7, 30):  # texts have many lengths
            given = ids(checkpoint, length)
            expected = alone(checkpoint, given)
            assert expected.std() > 0.01
            np.testing.assert_allclose(
                encoder.encode(given)["PROMPT_EMBEDS"], expected, rtol=0, atol=1e-5
            )


def test_a_killed_rank_is_replaced_and_the_next_text_is_encoded() -> None:
    checkpoint = Checkpoint.open(SHAPES)
    given = ids(checkpoint, 5)
    with group(SHAPES, 2) as encoder:
        os.kill(pids(encoder)[1], signal.SIGKILL)
        with pytest.raises(RankLostError, match=r"rank 1 was killed by SIGKILL"):
            encoder.encode(given)
        made = encoder.encode(given)["PROMPT_EMBEDS"]
        assert encoder.starts == 2
    np.testing.assert_allclose(made, alone(checkpoint, given), rtol=0, atol=1e-5)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHAPES, tmp_path / "model"))
    keep_tensors(
        folder / "text_encoder/model.safetensors",
        lambda name: name != "encoder.final_layer_norm.weight",
    )
    with pytest.raises(
        CheckpointError, match=r"text_encoder: no file holds encoder\.final_layer_norm\.weight$"
    ):
        load(Checkpoint.open(folder), "text_encoder", torch.float32)
