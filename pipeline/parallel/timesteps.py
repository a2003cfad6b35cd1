"""Timesteps per token (Wan 2.2 TI2V): each distinct timestep is embedded once.

All tokens of a video have one of two timesteps, that of the step or 0. diffusers embeds each of
them: 27,280 rows through the widest linear layer of the model for 121 frames of 1280x704.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def embed_distinct_timesteps(
    model: Any, local: Callable[[torch.Tensor], torch.Tensor] = lambda tokens: tokens
) -> None:
    """Have a ``WanTransformer3DModel`` embed distinct timesteps and repeat the results for its
    tokens.

    ``local`` returns this rank's part of a tensor [B, N, ...] with a row for each token.
    """
    places: list[torch.Tensor] = []

    def find(
        _module: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]] | None:
        length = kwargs.get("timestep_seq_len")
        if length is None:
            return None
        distinct, inverse = torch.unique(args[0], return_inverse=True)
        places.append(local(inverse.view(-1, length)))
        return (distinct, *args[1:]), {**kwargs, "timestep_seq_len": None}

    def repeat(
        _module: Any, _args: Any, outputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        if not places:
            return outputs
        here = places.pop()
        embedded, projected, *others = outputs
        return embedded[here], projected[here], *others

    model.condition_embedder.register_forward_pre_hook(find, with_kwargs=True)
    model.condition_embedder.register_forward_hook(repeat)
