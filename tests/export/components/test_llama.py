"""The exported LLaMA against the hidden state that HunyuanVideo's pipeline in diffusers reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from diffusers import HunyuanVideoPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import LlamaModel

from pipeline.families.hunyuan import PROMPT_TEMPLATE, TEMPLATE_TOKENS
from tests.export.components.conftest import ExportedPart

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def llama(export_part) -> ExportedPart:
    return export_part("hunyuan-video", "text_encoder")


@pytest.mark.parametrize("lengths", [[1], [7], [115], [3, 1], [5, 9, 2], [7, 7]])
def test_output_equals_the_third_last_hidden_state(llama: ExportedPart, lengths: list[int]) -> None:
    longest = max(lengths)
    ids = torch.randint(0, 21, (len(lengths), longest), generator=torch.Generator().manual_seed(4))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    model = LlamaModel.from_pretrained(llama.source).eval()
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    expected = states[-3].numpy()
    assert expected.std() > 0.1, "flat embeddings would hide mistakes"
    assert np.abs(expected - states[-2].numpy()).max() > 0.01, (
        "the layers that are left out do something"
    )
    (embeds,) = llama.run("model", ids.numpy(), mask.numpy())
    np.testing.assert_allclose(embeds, expected, rtol=0, atol=TOLERANCE)


def test_embeddings_after_the_template_equal_the_pipelines(llama: ExportedPart) -> None:
    pipeline = HunyuanVideoPipeline.from_pretrained(
        llama.checkpoint.path, transformer=None, vae=None
    )
    prompt, length = "a red circle moves left", 120
    expected, _, _ = pipeline.encode_prompt(prompt, max_sequence_length=length)
    tokens = pipeline.tokenizer(
        DEFAULT_PROMPT_TEMPLATE["template"].format(prompt),
        max_length=TEMPLATE_TOKENS + length,
        padding="max_length",
        truncation=True,
        return_tensors="np",
    )
    (embeds,) = llama.run("model", tokens.input_ids, tokens.attention_mask)
    assert DEFAULT_PROMPT_TEMPLATE == {"template": PROMPT_TEMPLATE, "crop_start": TEMPLATE_TOKENS}
    np.testing.assert_allclose(
        embeds[:, TEMPLATE_TOKENS:], expected.detach().numpy(), rtol=0, atol=TOLERANCE
    )


def test_the_last_two_layers_and_the_norm_are_not_exported(llama: ExportedPart) -> None:
    names = [tensor.name for tensor in onnx.load(llama.folder / "model.onnx").graph.initializer]
    layers = {name.partition("layers.")[2].partition(".")[0] for name in names if "layers." in name}
    assert layers == {"0", "1"}
    assert not any("model.norm" in name for name in names)
