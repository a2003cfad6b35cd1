"""A record states what an engine was built with, and so which servers can run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import CheckpointError
from pipeline.sessions.engine_record import EngineRecord, Library

RECORD = EngineRecord(library="tensorrt", version="10.13.3.9", target="sm89", engine_bytes=7)


def test_the_record_is_stored_beside_its_plan(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    RECORD.save(plan)
    assert EngineRecord.load(plan) == RECORD
    assert [file.name for file in tmp_path.iterdir()] == ["model.plan.json"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"library": "tensorrt", "version": 3}'])
def test_the_error_names_a_missing_or_broken_record(content: str | None, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    if content is not None:
        plan.with_name("model.plan.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.plan\.json .*export the checkpoint again$"):
        EngineRecord.load(plan)


@pytest.mark.parametrize("version", ["10.13.3.9", "10.13.3", "10.13"])
def test_a_version_with_fewer_components_matches(version: str) -> None:
    RECORD.require("tensorrt", version, Path("model.plan"))


@pytest.mark.parametrize(
    ("library", "version"),
    [("tensorrt", "10.13.2"), ("tensorrt", "10.14.1"), ("tensorrt_rtx", "10.13.3.9")],
)
def test_the_error_names_both_versions(library: Library, version: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        RECORD.require(library, version, Path("repo/model.plan"))
    sentence = str(caught.value)
    assert sentence.startswith(
        "repo/model.plan was built with TensorRT 10.13.3.9 and cannot run with the server's "
    )
    assert version in sentence
    assert "\n" not in sentence
