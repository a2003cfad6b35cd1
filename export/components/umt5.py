"""The UMT5 text encoder of the Wan families: one graph, ``model``."""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Range, Size
from pipeline.ensemble.tensors import ATTENTION_MASK, INPUT_IDS, PROMPT_EMBEDS

MAX_TEXTS = 2  # the prompt and the negative prompt


def graphs(model: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graph from ``INPUT_IDS`` and ``ATTENTION_MASK``, int64 [batch, length], to
    ``PROMPT_EMBEDS``, float32 [batch, length, d_model].

    The output is the last hidden state; rows of padding tokens are computed but have no meaning.
    """
    longest = bounds.info.defaults.max_sequence_length
    dims = (Size("batch"), Size("length"))
    return (
        Graph(
            name="model",
            module=_LastHiddenState(model).eval(),
            inputs=(
                Port(INPUT_IDS.name, torch.int64, dims, below=model.config.vocab_size),
                Port(ATTENTION_MASK.name, torch.int64, dims),
            ),
            outputs=(PROMPT_EMBEDS.name,),
            ranges={"batch": Range(1, 1, MAX_TEXTS), "length": Range(1, min(64, longest), longest)},
        ),
    )


class _LastHiddenState(torch.nn.Module):
    """Narrows the model to the two inputs and the one output of the graph."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state.float()


def _model_class() -> type[Any]:
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    return UMT5EncoderModel


COMPONENT = Component(_model_class, graphs)
