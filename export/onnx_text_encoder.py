"""The UMT5 text encoder of a Wan checkpoint as one ONNX graph."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from export.onnx_common import export_onnx, require_component

# Neither is 1: the tracer would take a 1 for a constant. The graph itself does run with batch 1 and length 1.
_SAMPLE_BATCH, _SAMPLE_LENGTH = 2, 7


def export_text_encoder(component: Path, output: Path) -> None:
    """Writes the encoder in the checkpoint folder `component` to the file `output`, in fp32 (T5 overflows in fp16).

    Inputs: ``input_ids`` and ``attention_mask``, both int64 [batch, length]. Output: ``prompt_embeds``, float32
    [batch, length, d_model], the last hidden state; rows of padding tokens are computed but mean nothing. Batch and
    length are free, from 1 up.

    Raises CheckpointError where `component` is not a model folder.
    """
    require_component(component)
    model = UMT5EncoderModel.from_pretrained(component, dtype=torch.float32)
    ids = torch.ones(_SAMPLE_BATCH, _SAMPLE_LENGTH, dtype=torch.int64)
    axes = {0: Dim("batch"), 1: Dim("length")}
    export_onnx(
        _LastHiddenState(model),
        (ids, torch.ones_like(ids)),
        output,
        inputs=("input_ids", "attention_mask"),
        outputs=("prompt_embeds",),
        dynamic_shapes=(axes, axes),
    )


class _LastHiddenState(torch.nn.Module):
    """Narrows the model to the two tensors in and the one tensor out that the graph shall have."""

    def __init__(self, model: UMT5EncoderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
