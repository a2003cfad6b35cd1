"""Checkpoints in the published sizes open, and take no space."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.memory.weights import weights_of
from scripts.published import PUBLISHED

BILLIONS = {
    "Wan2.1-T2V-1.3B": 1.42,
    "Wan2.1-T2V-14B": 14.29,
    "Wan2.1-I2V-14B-720P": 16.39,
    "Wan2.2-TI2V-5B": 5.0,
    "Wan2.2-T2V-A14B": 14.29,
    "Wan2.2-I2V-A14B": 14.29,
    "HunyuanVideo": 12.82,
}
"""Parameters of a transformer, as the models' cards have them or the files on the hub add up to."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_is_accepted(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(PUBLISHED[name](tmp_path / name))
    assert round(weights_of(checkpoint, "transformer").count / 1e9, 2) == BILLIONS[name]
    files = [file.stat() for file in checkpoint.path.rglob("*") if file.is_file()]
    assert sum(file.st_blocks * 512 for file in files) < 2**21
    assert sum(file.st_size for file in files) > 2**33
