"""Distinct timesteps are embedded once; the velocity is that of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sequence import Sharding
from pipeline.parallel.sharding import shard_transformer
from pipeline.parallel.timesteps import embed_distinct_timesteps
from tests.pipeline.ranks.test_offload import transformer

TOKENS = 2 * 2 * 2
PER_TOKEN = torch.tensor([[0.0] * 4 + [731.0] * 4, [0.0] * 4 + [52.5] * 4])
INPUTS = {
    "hidden_states": torch.randn(2, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1)),
    "encoder_hidden_states": torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2)),
}


def velocity(model: Any, timestep: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(timestep=timestep, return_dict=False, **INPUTS)[0]


def plain() -> WanTransformer3DModel:
    """Return the model of diffusers, without hooks."""
    model = transformer()
    model.condition_embedder._forward_pre_hooks.clear()
    model.condition_embedder._forward_hooks.clear()
    return model


@pytest.mark.parametrize(("timestep", "rows"), [(PER_TOKEN, 3), (torch.tensor([731.0, 52.5]), 2)])
def test_velocity_is_that_of_diffusers_with_a_row_for_each_timestep(
    timestep: torch.Tensor, rows: int
) -> None:
    expected = velocity(plain(), timestep)
    model, seen = plain(), list[int]()
    shard_transformer(model, Mesh())
    model.condition_embedder.time_embedder.register_forward_pre_hook(
        lambda _module, args: seen.append(len(args[0]))
    )
    made = velocity(model, timestep)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)
    assert seen == [rows]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_rank_repeats_embeddings_for_its_own_tokens(index: int) -> None:
    """8 tokens on 3 ranks: the last one has 2 and a token of padding."""
    mesh: Any = SimpleNamespace(sequence=SimpleNamespace(size=3, index=index))
    whole, sharded = (embedder(local) for local in (None, Sharding(mesh).local))
    for every, own in zip(whole, sharded, strict=True):
        count = min(3, TOKENS - 3 * index)
        assert own.shape[1] == 3
        torch.testing.assert_close(
            own[:, :count], every[:, 3 * index : 3 * index + count], rtol=0, atol=1e-6
        )


def embedder(local: Callable[[torch.Tensor, int], torch.Tensor] | None) -> list[torch.Tensor]:
    """Return both embeddings of the timesteps, of all tokens or those of ``local``."""
    model = plain()
    if local:
        embed_distinct_timesteps(model, lambda tokens: local(tokens, 1))
    with torch.inference_mode():
        outputs = model.condition_embedder(
            PER_TOKEN.flatten(),
            INPUTS["encoder_hidden_states"],
            None,
            timestep_seq_len=TOKENS,
        )
    return list(outputs[:2])
