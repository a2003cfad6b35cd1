"""The CLIP text encoder of HunyuanVideo, which makes one vector for a whole text: one graph,
``model``.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Range, Size
from pipeline.ensemble.tensors import INPUT_IDS, POOLED_EMBEDS

MAX_TEXTS = 2  # the prompt and the negative prompt


def graphs(model: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graph from ``INPUT_IDS``, int64 [batch, length], to ``POOLED_EMBEDS``, float32
    [batch, hidden_size], the vector of the text's end.

    There is no mask: a token attends only to those before it, so nothing after the first end token
    has an effect, and a text needs no padding.
    """
    del bounds
    longest = model.config.max_position_embeddings
    dims = (Size("batch"), Size("length"))
    return (
        Graph(
            name="model",
            module=_Pooled(model).eval(),
            inputs=(Port(INPUT_IDS.name, torch.int64, dims, below=model.config.vocab_size),),
            outputs=(POOLED_EMBEDS.name,),
            ranges={"batch": Range(1, 1, MAX_TEXTS), "length": Range(1, min(32, longest), longest)},
        ),
    )


class _Pooled(torch.nn.Module):
    """Narrows the model to the one input and the one output of the graph."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids).pooler_output.float()


def _model_class() -> type[Any]:
    from transformers.models.clip.modeling_clip import CLIPTextModel

    return CLIPTextModel


COMPONENT = Component(_model_class, graphs)
