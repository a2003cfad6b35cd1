"""The exported CLIP text encoder against the pooled output in transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.families.parts import TEXT_ENCODER_2
from tests.checkpoints.parts import shake
from tests.export.components.conftest import ExportedPart
from tests.export.exporting import export_all

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def clip(export_part) -> ExportedPart:
    return export_part("hunyuan-video", "text_encoder_2")


def texts(lengths: list[int], end: int, words: range) -> np.ndarray:
    """Random tokens; after the end of each text there is more, as padding can be."""
    draw = np.random.default_rng(3)
    ids = draw.choice(list(words), (len(lengths), max(lengths) + 2))
    ids[np.arange(len(lengths)), lengths] = end
    return ids.astype(np.int64)


@pytest.mark.parametrize("lengths", [[0], [5], [75], [3, 1], [5, 9, 2]])
def test_equals_the_pooled_output_of_transformers(clip: ExportedPart, lengths: list[int]) -> None:
    model = CLIPTextModel.from_pretrained(clip.source).eval()
    ids = texts(lengths, model.config.eos_token_id, range(2, 18))
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(ids)).pooler_output.numpy()
    assert expected.std() > 0.1, "flat embeddings would hide mistakes"
    (embeds,) = clip.run("model", ids)
    np.testing.assert_allclose(embeds, expected, rtol=0, atol=TOLERANCE)


def test_tokens_after_the_end_have_no_effect(clip: ExportedPart) -> None:
    ids = texts([4], 1, range(2, 18))
    (alone,) = clip.run("model", ids[:, :5])
    (followed,) = clip.run("model", np.pad(ids[:, :5], ((0, 0), (0, 72))))
    np.testing.assert_allclose(followed, alone, rtol=0, atol=TOLERANCE)


def test_an_old_config_pools_at_the_highest_token(tmp_path: Path) -> None:
    """Published CLIP configs say that the end token is 2, which is wrong; transformers takes the
    highest then.
    """
    torch.manual_seed(8)
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=23,
            hidden_size=20,
            intermediate_size=28,
            num_hidden_layers=1,
            num_attention_heads=4,
            eos_token_id=2,
        )
    ).eval()
    shake(model)
    model.save_pretrained(tmp_path / "source")
    export_all(TEXT_ENCODER_2, "CLIPTextModel", tmp_path / "source", tmp_path)
    ids = texts([6, 3], 22, range(22))
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(ids)).pooler_output.numpy()
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(None, {"INPUT_IDS": ids})[0], expected, rtol=0, atol=TOLERANCE
    )
