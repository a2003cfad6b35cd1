"""The table of a checkpoint is its own file, or the published one of its family and geometry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.checkpoint.folder import Checkpoint
from pipeline.checkpoint.step_cache_table import PUBLISHED, find_table, load_table
from pipeline.errors import CheckpointError, InputError
from pipeline.families import FAMILIES, SamplingParams
from pipeline.families.step_cache.table import FILE_NAME, StepCacheTable
from tests.checkpoints.wan import distil

TABLE = StepCacheTable(ratios=((tuple([0.99] * 20),),))


@pytest.fixture
def checkpoint(build_family: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(build_family("wan2.1-t2v"), tmp_path / "checkpoint")


@pytest.mark.parametrize("key", PUBLISHED, ids=lambda key: PUBLISHED[key])
def test_published_model_has_its_table(key: tuple[str, int, int], tmp_path: Path) -> None:
    family, layers, heads = FAMILIES[key[0]], key[1], key[2]
    configs = {"transformer": {"num_layers": layers, "num_attention_heads": heads}}
    table = find_table(tmp_path, family, configs)
    assert table is not None
    assert len(table.ratios) == len(family.transformers)
    configs["transformer"]["num_layers"] += 1
    assert find_table(tmp_path, family, configs) is None


def test_image_to_video_in_720p_has_its_own_table(tmp_path: Path) -> None:
    configs = {"transformer": {"num_layers": 40, "num_attention_heads": 40}}
    small, large = (
        find_table(tmp_path / f"Wan2.1-I2V-14B-{size}-Diffusers", FAMILIES["wan2.1-i2v"], configs)
        for size in ("480P", "720P")
    )
    assert small
    assert large
    assert "480P" in small.source
    assert "720P" in large.source


def test_file_of_the_checkpoint_comes_first(checkpoint: Path) -> None:
    assert Checkpoint.open(checkpoint).step_cache is None
    (checkpoint / FILE_NAME).write_text(TABLE.model_dump_json())
    opened = Checkpoint.open(checkpoint)
    assert opened.step_cache == TABLE
    assert opened.info.step_cache


def test_request_to_a_model_without_a_table_names_calibrate(checkpoint: Path) -> None:
    info, params = Checkpoint.open(checkpoint).info, SamplingParams(prompt="-", step_cache="2x")
    with pytest.raises(InputError, match="no table; triton-video calibrate makes one") as error:
        info.resolve(params)
    assert error.value.field == "step_cache"
    off = info.resolve(params.model_copy(update={"step_cache": "off"}))
    assert off.step_cache == "off"
    assert info.resolve(SamplingParams(prompt="-")).step_cache is None


def test_distilled_model_has_no_table(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / FILE_NAME).write_text(TABLE.model_dump_json())
    info = Checkpoint.open(distil(checkpoint, tmp_path / "fast")).info
    assert not info.step_cache
    with pytest.raises(InputError, match="distilled to few steps"):
        info.resolve(SamplingParams(prompt="-", step_cache="1.5x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "object"),
        ('{"ratios": [[[0]]]}', "greater than 0"),
        (json.dumps({"ratios": [[[1.0]], [[1.0]]]}), "2 experts are not valid; the model has 1"),
        ('{"ratios": [[[1.0]]], "extra": 1}', "not permitted|extra"),
    ],
)
def test_invalid_file_is_named(checkpoint: Path, text: str, message: str) -> None:
    (checkpoint / FILE_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{FILE_NAME}.*({message})"):
        Checkpoint.open(checkpoint)


def test_table_has_to_be_a_regular_file_of_the_checkpoint(checkpoint: Path) -> None:
    (checkpoint / FILE_NAME).symlink_to("/etc/passwd")
    with pytest.raises(CheckpointError, match=FILE_NAME):
        Checkpoint.open(checkpoint)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.json is missing"):
        load_table(tmp_path / "none.json")
