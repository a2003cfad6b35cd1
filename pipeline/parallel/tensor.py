"""Tensor parallelism of a text encoder: each rank has some of the heads and some of the
feed-forward columns.

That is the scheme of Megatron-LM (Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053): the first
linear layers of attention and of the feed-forward keep some of their outputs, the last one takes
those alone and makes a part of a sum, which all ranks add up. Norms and the embedding of tokens are
whole on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Add = Callable[[torch.Tensor], torch.Tensor]
"""The sum of all ranks' tensors, on every rank."""

# By the names that transformers gives them in UMT5 and in LLaMA.
COLUMN_PARALLEL = frozenset(
    {"q", "k", "v", "wi", "wi_0", "wi_1", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
)
ROW_PARALLEL = frozenset({"o", "wo", "o_proj", "down_proj"})
POSITION_BIAS = "relative_attention_bias"  # an embedding with a column for each head


def shard_text_encoder(model: torch.nn.Module, rank: int, ranks: int, add: Add) -> None:
    """Cuts the weights of `model` down to this rank's; what it computes then is the same on
    every rank.
    """

    def add_up(_module: torch.nn.Module, _given: Any, made: torch.Tensor) -> torch.Tensor:
        return add(made)

    module: Any
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if name in COLUMN_PARALLEL:
            _cut(module.weight, 0, rank, ranks)
            if module.bias is not None:
                _cut(module.bias, 0, rank, ranks)
        elif name in ROW_PARALLEL:
            _cut(module.weight, 1, rank, ranks)
            if module.bias is not None and rank:
                torch.nn.init.zeros_(module.bias)  # it is in the sum once
            module.register_forward_hook(add_up)
        elif name == POSITION_BIAS:
            _cut(module.weight, 1, rank, ranks)
        if hasattr(module, "n_heads"):  # UMT5's attention counts them; LLaMA's takes what there is
            module.n_heads //= ranks
            module.inner_dim //= ranks


def _cut(parameter: torch.nn.Parameter, dimension: int, rank: int, ranks: int) -> None:
    """Down to this rank's share, copied, so that the rest can be given back."""
    share = parameter.shape[dimension] // ranks
    parameter.data = parameter.data.narrow(dimension, rank * share, share).clone()
