"""The LLaMA text encoder of HunyuanVideo: one graph, ``model``.

The transformer reads the third last hidden state, without the norm after it. So the last two layers
are not exported, and their weights (a sixteenth of LLaMA 3 8B) are not served.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Range, Size
from pipeline.ensemble.tensors import ATTENTION_MASK, INPUT_IDS, PROMPT_EMBEDS
from pipeline.families.hunyuan import SKIPPED_LAYERS, TEMPLATE_TOKENS

MAX_TEXTS = 2  # the prompt and the negative prompt


def graphs(model: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graph from ``INPUT_IDS`` and ``ATTENTION_MASK``, int64 [batch, length], to
    ``PROMPT_EMBEDS``, float32 [batch, length, hidden_size].

    Length counts the tokens of the instruction before every prompt, whose embeddings ``dit`` cuts
    off. Padding comes last; its rows are computed but have no meaning. ``model`` is changed in
    place.
    """
    longest = TEMPLATE_TOKENS + bounds.info.defaults.max_sequence_length
    dims = (Size("batch"), Size("length"))
    return (
        Graph(
            name="model",
            module=_HiddenState(model).eval(),
            inputs=(
                Port(INPUT_IDS.name, torch.int64, dims, below=model.config.vocab_size),
                Port(ATTENTION_MASK.name, torch.int64, dims),
            ),
            outputs=(PROMPT_EMBEDS.name,),
            ranges={
                "batch": Range(1, 1, MAX_TEXTS),
                "length": Range(1, min(TEMPLATE_TOKENS + 64, longest), longest),
            },
        ),
    )


class _HiddenState(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        model.layers = model.layers[:-SKIPPED_LAYERS]
        model.norm = torch.nn.Identity()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return output.last_hidden_state.float()


def _model_class() -> type[Any]:
    from transformers.models.llama.modeling_llama import LlamaModel

    return LlamaModel


COMPONENT = Component(_model_class, graphs)
