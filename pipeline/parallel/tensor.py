"""Tensor parallelism of a text encoder: each rank has some of the heads and some of the
feed-forward columns.

This is the scheme of Megatron-LM (Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053): the first
linear layers of attention and of the feed-forward keep some of their outputs, and the last one
takes only those and computes a partial sum, which is added up over all ranks. Norms and the token
embedding are whole on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Add = Callable[[torch.Tensor], torch.Tensor]
"""Returns the sum of the tensors of all ranks, on every rank."""

# These are the names that transformers uses in UMT5 and in LLaMA.
COLUMN_PARALLEL = frozenset(
    {"q", "k", "v", "wi", "wi_0", "wi_1", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
)
ROW_PARALLEL = frozenset({"o", "wo", "o_proj", "down_proj"})
POSITION_BIAS = "relative_attention_bias"  # an embedding with a column for each head


def shard_text_encoder(model: torch.nn.Module, rank: int, ranks: int, add: Add) -> None:
    """Cut the weights of `model` down to this rank's share. The model then returns the same output
    on every rank.
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
                torch.nn.init.zeros_(module.bias)  # the sum must include it once
            module.register_forward_hook(add_up)
        elif name == POSITION_BIAS:
            _cut(module.weight, 1, rank, ranks)
        if hasattr(module, "n_heads"):  # UMT5 stores the count; LLaMA infers it
            module.n_heads //= ranks
            module.inner_dim //= ranks


def _cut(parameter: torch.nn.Parameter, dimension: int, rank: int, ranks: int) -> None:
    """Reduce the parameter to a copy of this rank's share, so that the memory of the rest
    is freed.
    """
    share = parameter.shape[dimension] // ranks
    parameter.data = parameter.data.narrow(dimension, rank * share, share).clone()
