"""Engines run where there is a GPU, and errors state why one cannot run elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.records import GraphRecord
from export.tensorrt import build
from export.tensorrt.targets import TARGETS, gpu_target, is_installed
from pipeline.errors import CheckpointError, InputError
from pipeline.sessions.engine_record import EngineRecord, Library
from pipeline.sessions.tensorrt_session import DeviceTensor, TensorRtSession
from tests.export.tensorrt import graphs

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def built(
    folder: Path, library: Library, target: str | None = None, record: GraphRecord | None = None
) -> Path:
    """Return the plan of an engine for the graph ``y = sigmoid(x)``, with the profiles of
    ``record`` or with sides from 2 to 8.
    """
    plan = folder / "model.plan"
    build(
        graphs.good(folder),
        record or graphs.record(),
        plan,
        library=library,
        target=target,
        on_progress=lambda percent: None,
    )
    return plan


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_computes_what_the_graph_does(library: Library, tmp_path: Path) -> None:
    if not is_installed(library) or (library == "tensorrt_rtx" and gpu_target() not in TARGETS):
        pytest.skip(f"{library} does not build here")
    session = TensorRtSession(built(tmp_path, library))
    assert list(session.inputs) == ["x"]
    assert list(session.outputs) == ["y"]
    for side in (2, 5, 8):
        x = np.linspace(-3, 3, 3 * side * side, dtype=np.float32).reshape(1, 3, side, side)
        (y,) = session.run(["y"], {"x": x})
        np.testing.assert_allclose(y.numpy(), 1 / (1 + np.exp(-x)), atol=1e-5)
        (again,) = session.run(["y"], {"x": y})  # never left the GPU
        np.testing.assert_allclose(again.numpy(), 1 / (1 + np.exp(-y.numpy())), atol=1e-5)
    with pytest.raises(InputError, match=r"^x: \[1, 3, 9, 9\] is outside the engine's sizes"):
        session.run(["y"], {"x": np.zeros((1, 3, 9, 9), np.float32)})


@pytest.mark.gpu
@on_gpu
def test_an_engine_switches_between_its_profiles(tmp_path: Path) -> None:
    if not is_installed("tensorrt"):
        pytest.skip("tensorrt does not build here")
    session = TensorRtSession(built(tmp_path, "tensorrt", record=graphs.turning()))
    for height, width in ((2, 8), (8, 2), (2, 2), (5, 2), (2, 7)):
        x = np.linspace(-3, 3, 3 * height * width, dtype=np.float32).reshape(1, 3, height, width)
        (y,) = session.run(["y"], {"x": x})
        np.testing.assert_allclose(y.numpy(), 1 / (1 + np.exp(-x)), atol=1e-5)
    with pytest.raises(InputError, match=r"^x: \[1, 3, 8, 8\] .*--engine-max-pixels"):
        session.run(["y"], {"x": np.zeros((1, 3, 8, 8), np.float32)})


@on_cpu
@pytest.mark.export
def test_an_engine_without_a_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"model\.plan needs a GPU that torch can use, and there is none"
    ):
        TensorRtSession(built(tmp_path, "tensorrt_rtx", "sm89"))


def test_another_version_is_refused_before_the_plan_is_read(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    EngineRecord(library="tensorrt_rtx", version="1.6.0", target="sm89", engine_bytes=1).save(plan)
    with pytest.raises(
        CheckpointError, match=r"was built with TensorRT for RTX 1\.6\.0 and cannot run with"
    ):
        TensorRtSession(plan)


@pytest.mark.skipif(is_installed("tensorrt"), reason="tensorrt is installed")
def test_the_error_names_a_missing_library_and_its_version(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    EngineRecord(library="tensorrt", version="10.13.3.9", target="sm89", engine_bytes=1).save(plan)
    with pytest.raises(CheckpointError, match=r"needs TensorRT: install tensorrt 10\.13\.3\.9"):
        TensorRtSession(plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_of_any_dtype_convert_to_numpy(dtype: torch.dtype) -> None:
    array = DeviceTensor(torch.tensor([0.5, -2.0], dtype=dtype)).numpy()
    assert array.tolist() == [0.5, -2.0]
    assert array.dtype == (np.float16 if dtype == torch.float16 else np.float32)
