"""Engines on disk, their record, and the machines that cannot build them."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.tensorrt import build, building, verify
from export.tensorrt.targets import gpu_target, is_installed
from pipeline.errors import CheckpointError, InputError
from pipeline.sessions.engine_record import EngineRecord, Library
from tests.export.tensorrt import graphs


def build_rtx(onnx: Path, plan: Path, target: str = "sm89", **options):
    return build(
        onnx,
        graphs.record(),
        plan,
        library="tensorrt_rtx",
        target=target,
        on_progress=lambda percent: None,
        **options,
    )


@pytest.mark.parametrize("weight_bytes", [None, 1000])
def test_an_engine_and_its_record_are_written(weight_bytes: int | None, tmp_path: Path) -> None:
    plan = tmp_path / "repository" / "model.plan"
    found = build_rtx(graphs.good(tmp_path), plan, weight_bytes=weight_bytes, tf32=True)
    assert found.ok
    assert plan.stat().st_size == found.engine_bytes > 0
    record = EngineRecord.load(plan)
    assert (record.library, record.target, record.version) == (
        "tensorrt_rtx",
        "sm89",
        found.version,
    )
    assert record.version.count(".") >= 2
    assert record.weight_bytes == weight_bytes
    assert graphs.files(plan.parent) == ["model.plan", "model.plan.json"], (
        "nothing half-written is left"
    )


def test_a_graph_that_cannot_be_built_leaves_the_old_engine(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"the old one")
    with pytest.raises(
        CheckpointError, match=r"cannot be built for sm89: distinct \(Unique\): "
    ) as caught:
        build_rtx(graphs.unsupported(tmp_path), plan)
    assert "\n" not in str(caught.value)
    assert plan.read_bytes() == b"the old one"
    assert graphs.files(tmp_path) == ["model.onnx", "model.plan"]


def test_rtx_builds_what_only_tensorrt_refuses(tmp_path: Path) -> None:
    assert build_rtx(graphs.bf16_resize(tmp_path), tmp_path / "model.plan").ok


@pytest.mark.skipif(is_installed("tensorrt"), reason="tensorrt is installed")
def test_the_error_without_tensorrt_says_where_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "gpu_target", lambda: "sm90")
    with pytest.raises(
        InputError, match=r"^flavour: tensorrt needs the package tensorrt .* image gpu .* python$"
    ):
        build(
            graphs.good(tmp_path),
            graphs.record(),
            tmp_path / "model.plan",
            on_progress=lambda percent: None,
        )


@pytest.mark.skipif(gpu_target() is not None, reason="this machine has a GPU")
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_the_error_without_a_gpu_says_so(library: Library, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^flavour: .*this machine has none"):
        build(
            graphs.good(tmp_path),
            graphs.record(),
            tmp_path / "model.plan",
            library=library,
            on_progress=lambda percent: None,
        )


def test_an_unknown_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^flavour: tensorrt_rtx cannot build for sm90; it knows sm75, "
    ):
        build_rtx(graphs.good(tmp_path), tmp_path / "model.plan", target="sm90")


def test_a_plan_is_verified_against_the_installed_library(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    build_rtx(graphs.good(tmp_path), plan)
    record = verify(plan)
    record.model_copy(update={"version": "1.6.0.1"}).save(plan)
    with pytest.raises(
        CheckpointError, match=r"was built with TensorRT for RTX 1\.6\.0\.1 and cannot run with"
    ):
        verify(plan)
    record.save(plan)
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=rf"cut short or damaged: it should have {record.engine_bytes} bytes"
    ):
        verify(plan)
    plan.unlink()
    with pytest.raises(CheckpointError, match=r"model\.plan is missing"):
        verify(plan)
