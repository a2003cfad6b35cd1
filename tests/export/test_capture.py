"""Graphs whose weights come from a checkpoint's files, beside the model that transformers loads
from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from export.capture import capture, replacing
from export.components import component_for
from export.weights import empty_model, initialisers
from pipeline.families.parts import TEXT_ENCODER
from tests.export.exporting import BOUNDS

pytestmark = pytest.mark.export

UMT5 = component_for(TEXT_ENCODER, "UMT5EncoderModel")
IDS = np.array([[3, 5, 1]])


def values(path: Path) -> dict[str, bytes]:
    """Initialiser outside of the graph -> its bytes. onnx itself refuses to read files that have
    several names.
    """
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if at := {entry.key: entry.value for entry in tensor.external_data}:
            offset = int(at["offset"])
            found[tensor.name] = (path.parent / at["location"]).read_bytes()[
                offset : offset + int(at["length"])
            ]
    return found


@pytest.mark.parametrize(
    ("dtype", "beside"),
    [(torch.float32, "model.safetensors"), (torch.bfloat16, "model.onnx.data")],
    ids=str,
)
def test_weights_come_from_the_checkpoint(
    text_encoder_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    beside: str,
) -> None:
    """Stored as they are wanted, they are referred to where they lie; else they are converted on
    the way.
    """
    monkeypatch.setattr(initialisers, "INLINE_BYTES", 0)
    loaded = UMT5EncoderModel.from_pretrained(text_encoder_folder, dtype=dtype).eval()
    path = tmp_path / "model.onnx"
    (graph,) = UMT5.graphs(empty_model(UMT5, text_encoder_folder, dtype), BOUNDS)

    nodes = capture(graph, path, text_encoder_folder)

    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["model.onnx", beside])
    assert nodes == len(onnx.load(path, load_external_data=False).graph.node)
    assert values(path) == {
        f"module.model.{name}": parameter.detach().view(torch.uint8).numpy().tobytes()
        for name, parameter in loaded.named_parameters(remove_duplicate=False)
        if name != "shared.weight"
    }
    if dtype == torch.float32:
        feeds = {"INPUT_IDS": IDS, "ATTENTION_MASK": np.ones_like(IDS)}
        (got,) = ort.InferenceSession(str(path)).run(None, feeds)
        with torch.no_grad():
            expected = loaded(input_ids=torch.from_numpy(IDS)).last_hidden_state.numpy()
        np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=1e-5)


class TestReplacing:
    def test_a_graph_is_replaced_whole_or_not_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_text("old")

        def fail() -> None:
            with replacing(path) as staged:
                staged.write_text("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
            ("model.onnx", "old")
        ]

    def test_data_moves_in_with_the_graph(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        for content in ("old", "new"):
            with replacing(path) as staged:
                staged.write_text(content)
                staged.with_name("model.onnx.data").write_text(content)
            assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
                "model.onnx": content,
                "model.onnx.data": content,
            }
