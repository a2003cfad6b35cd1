"""Sequence parallelism of diffusers transformers: hooks split the tokens over the ranks before the
blocks and gather them after the last one.

Every rank holds all weights, conditions and latents; between the hooks it has its shard of the
tokens. The model's own code runs unchanged, except for attention across tokens.
"""

from __future__ import annotations

from typing import Any

import torch

from pipeline.parallel.mesh import Mesh
from pipeline.parallel.processors import JointAttention, SelfAttention
from pipeline.parallel.sequence import Sharding


def shard_transformer(model: Any, mesh: Mesh) -> None:
    """Spread the forward pass of ``model`` over ``mesh``; every rank then calls it with the same
    arguments.

    Raises ``TypeError`` for an unknown class.
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
        # Texts usually have the same length. They are then cut instead of masked: masks rule out
        # the fastest kernels.
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
