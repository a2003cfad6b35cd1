"""The exported text encoder against the model in transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from export.records import COMPONENT_FILE
from export.weights import initialisers
from pipeline.families.parts import TEXT_ENCODER
from tests.export.exporting import export_all, findings

TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def model(text_encoder_folder: Path) -> UMT5EncoderModel:
    return UMT5EncoderModel.from_pretrained(text_encoder_folder).eval()


@pytest.fixture(scope="session")
def exported(text_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_all(TEXT_ENCODER, "UMT5EncoderModel", text_encoder_folder, folder)
    return folder / "model.onnx"


def test_the_graph_compiles(exported: Path) -> None:
    assert findings(exported.parent) == {"model": ()}


def encode(path: Path, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (embeds,) = session.run(
        ["PROMPT_EMBEDS"], {"INPUT_IDS": ids.numpy(), "ATTENTION_MASK": mask.numpy()}
    )
    return np.asarray(embeds)


@pytest.mark.parametrize("lengths", [[1], [7], [40], [512], [3, 1], [5, 9, 2], [7, 7]])
def test_output_equals_transformers(
    model: UMT5EncoderModel, exported: Path, lengths: list[int]
) -> None:
    longest = max(lengths)
    ids = torch.randint(1, 67, (len(lengths), longest), generator=torch.Generator().manual_seed(4))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    ids = ids * mask

    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()

    assert expected.std() > 0.1, "flat embeddings would hide mistakes"
    np.testing.assert_allclose(encode(exported, ids, mask), expected, rtol=0, atol=TOLERANCE)


def test_padding_does_not_reach_the_prompt(exported: Path) -> None:
    ids = torch.tensor([[5, 9, 1]])
    padded = torch.tensor([[5, 9, 1, 0, 0]])

    alone = encode(exported, ids, torch.ones_like(ids))
    embeds = encode(exported, padded, (padded > 0).long())

    np.testing.assert_allclose(embeds[:, :3], alone, rtol=0, atol=TOLERANCE)


def test_tensors_have_names_and_free_batch_and_length(exported: Path) -> None:
    session = ort.InferenceSession(str(exported), providers=["CPUExecutionProvider"])

    assert {value.name: value.type for value in session.get_inputs()} == {
        "INPUT_IDS": "tensor(int64)",
        "ATTENTION_MASK": "tensor(int64)",
    }
    assert [value.shape for value in session.get_inputs()] == [["batch", "length"]] * 2
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("PROMPT_EMBEDS", ["batch", "length", 20])
    ]


def test_small_model_is_one_file(exported: Path) -> None:
    assert sorted(file.name for file in exported.parent.iterdir()) == [COMPONENT_FILE, "model.onnx"]


def test_large_model_stores_weights_beside_the_graph(
    text_encoder_folder: Path,
    tmp_path: Path,
    model: UMT5EncoderModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initialisers, "INLINE_BYTES", 0)
    path = tmp_path / "model.onnx"
    export_all(TEXT_ENCODER, "UMT5EncoderModel", text_encoder_folder, tmp_path)
    ids = torch.tensor([[8, 1]])

    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state.numpy()

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        COMPONENT_FILE,
        "model.onnx",
        "model.safetensors",
    ]
    np.testing.assert_allclose(
        encode(path, ids, torch.ones_like(ids)), expected, rtol=0, atol=TOLERANCE
    )
