"""Sequence parallelism of diffusers transformers: hooks split the tokens over the ranks before the
blocks and gather them after the last one.

Every rank holds all weights, conditions and latents; between the hooks it has its shard of the
tokens. The model's own code runs unchanged, except for attention across tokens.
"""

from __future__ import annotations

from typing import Any

from pipeline.parallel.mesh import Mesh
from pipeline.parallel.processors import JointAttention, SelfAttention
from pipeline.parallel.sequence import Sharding
from pipeline.parallel.timesteps import embed_distinct_timesteps

WAN = "WanTransformer3DModel"


def shard_transformer(model: Any, mesh: Mesh) -> None:
    """Spread the forward pass of ``model`` over ``mesh``; every rank then calls it with the same
    arguments.

    Raises ``TypeError`` for an unknown class.
    """
    if mesh.sequence.size == 1:
        if type(model).__name__ == WAN:
            embed_distinct_timesteps(model)
        return
    try:
        shard = _SHARDERS[type(model).__name__]
    except KeyError:
        raise TypeError(
            f"{type(model).__name__} cannot be sharded; {', '.join(_SHARDERS)} can"
        ) from None
    shard(model, Sharding(mesh))


def _shard_wan(model: Any, sharding: Sharding) -> None:
    model.rope.register_forward_hook(
        lambda _m, _a, angles: tuple(sharding.local(part, 1) for part in angles)
    )
    embed_distinct_timesteps(model, lambda tokens: sharding.local(tokens, 1))
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
    WAN: _shard_wan,
    "HunyuanVideoTransformer3DModel": _shard_hunyuan_video,
}
