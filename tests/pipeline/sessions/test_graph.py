"""A decoder runs the engine if the export built one, and the graph otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.sessions.engine_record import EngineRecord
from pipeline.sessions.graph import OnnxSession, open_graph, to_array
from tests.export.tensorrt import graphs


def test_a_graph_opens_on_onnx_runtime(tmp_path: Path) -> None:
    graphs.good(tmp_path)
    session = open_graph(tmp_path, "model", threads=1)
    assert isinstance(session, OnnxSession)
    assert session.inputs == {"x": [1, 3, "h", "w"]}
    (y,) = session.run(["y"], {"x": np.zeros((1, 3, 2, 5), np.float32)})
    assert to_array(y).shape == (1, 3, 2, 5)
    assert (to_array(y) == 0.5).all()


def test_the_error_names_the_graph_without_graph_or_engine(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"first\.onnx is missing"):
        open_graph(tmp_path, "first", threads=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_engine_is_preferred_and_the_error_names_what_it_needs(tmp_path: Path) -> None:
    graphs.good(tmp_path)
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"an engine")
    with pytest.raises(CheckpointError, match=r"model\.plan\.json is missing"):
        open_graph(tmp_path, "model", threads=1)
    EngineRecord(library="tensorrt_rtx", version="1.7", target="sm89", engine_bytes=9).save(plan)
    with pytest.raises(CheckpointError, match=r"model\.plan needs a GPU"):
        open_graph(tmp_path, "model", threads=1)
