"""A diffusers transformer whose sequence is spread over ranks: hooks split it on its way in and
gather it at the end.

Weights, conditioning and the latents outside are whole on every rank; between the hooks each rank
has its shard of the tokens. The model's own code runs unchanged, but for the attention that looks
across tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from pipeline.parallel.mesh import Mesh
from pipeline.parallel.processors import JointAttention, SelfAttention


class Sharding:
    """What hooks and attention share while a forward pass runs: the mesh and the sequence's true
    length.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.length = 0
        self.text_length: int | None = None

    def enter(self, tokens: torch.Tensor) -> torch.Tensor:
        """The whole sequence [B, N, C] to this rank's shard [B, ceil(N / ranks), C], zeros after
        the end.
        """
        self.length = tokens.shape[1]
        return self.local(tokens, 1)

    def local(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's part of a tensor that has a row per token in ``dim``."""
        axis = self.mesh.sequence
        missing = -tensor.shape[dim] % axis.size
        padding = [0, 0] * (tensor.ndim - 1 - dim) + [0, missing]
        return functional.pad(tensor, padding).chunk(axis.size, dim)[axis.index]

    def leave(self, tokens: torch.Tensor) -> torch.Tensor:
        """The shards [B, S, C] of all ranks to the whole sequence [B, N, C]."""
        return self.mesh.sequence.all_gather(tokens).transpose(0, 1).flatten(1, 2)[:, : self.length]


def shard_transformer(model: Any, mesh: Mesh) -> None:
    """Spread the model's forward pass over ``mesh``; every rank then calls it with the same
    arguments.

    Raises ``TypeError`` for a class that is not known here.
    """
    if mesh.sequence.size == 1:
        return
    try:
        shard = _SHARDERS[type(model).__name__]
    except KeyError:
        raise TypeError(
            f"{type(model).__name__} cannot be sharded; {', '.join(_SHARDERS)} can"
        ) from None
    shard(model, Sharding(mesh))


def _shard_wan(model: Any, sharding: Sharding) -> None:
    def split_timesteps(
        _module: Any, _args: Any, outputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        temb, projected, *others = outputs
        if temb.ndim == 3:  # a timestep per token (Wan 2.2 TI2V)
            return sharding.local(temb, 1), sharding.local(projected, 1), *others
        return outputs

    model.rope.register_forward_hook(
        lambda _m, _a, angles: tuple(sharding.local(part, 1) for part in angles)
    )
    model.condition_embedder.register_forward_hook(split_timesteps)
    model.blocks[0].register_forward_pre_hook(lambda _m, args: (sharding.enter(args[0]), *args[1:]))
    model.proj_out.register_forward_hook(lambda _m, _a, tokens: sharding.leave(tokens))
    for block in model.blocks:
        block.attn1.set_processor(SelfAttention(sharding))


def _shard_hunyuan_video(model: Any, sharding: Sharding) -> None:
    def note_text_length(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        # Texts of one length, the usual case, are cut instead of masked: masks rule out the fastest
        # kernels.
        lengths = kwargs["encoder_attention_mask"].sum(dim=1).unique()
        sharding.text_length = int(lengths) if lengths.numel() == 1 else None

    model.register_forward_pre_hook(note_text_length, with_kwargs=True)
    model.rope.register_forward_hook(
        lambda _m, _a, angles: tuple(sharding.local(part, 0) for part in angles)
    )
    model.x_embedder.register_forward_hook(lambda _m, _a, tokens: sharding.enter(tokens))
    model.proj_out.register_forward_hook(lambda _m, _a, tokens: sharding.leave(tokens))
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        block.attn.set_processor(JointAttention(sharding))


_SHARDERS = {
    "WanTransformer3DModel": _shard_wan,
    "HunyuanVideoTransformer3DModel": _shard_hunyuan_video,
}
