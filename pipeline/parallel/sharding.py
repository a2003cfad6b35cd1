"""Sequence parallelism of diffusers transformers: hooks split the tokens over the ranks before the
blocks and gather them after the last one.

Every rank holds all weights, conditions and latents; between the hooks it has its shard of the
tokens. The model's own code runs unchanged, except for attention across tokens.
"""

from __future__ import annotations

from typing import Any

from pipeline.parallel.backends import Kernel
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.processors import JointAttention, PaddingCutter, SelfAttention
from pipeline.parallel.sequence import Sharding
from pipeline.parallel.timesteps import embed_distinct_timesteps

WAN = "WanTransformer3DModel"
_DIFFUSERS: dict[Kernel, str] = {
    "cudnn": "_native_cudnn",
    "flash": "_native_flash",
    "flash3": "_flash_3",
    "sage": "sage",
}
"""The names of the kernels in diffusers, whose own processors compute what is not sharded."""


def shard_transformer(
    model: Any, mesh: Mesh, kernel: Kernel = "native", *, on_cpu: bool = False
) -> Sharding:
    """Spread the forward pass of ``model`` over ``mesh``; every rank then calls it with the same
    arguments. Attention uses ``kernel``. Returns the state of the sharding.

    ``on_cpu``: a single rank uses the attention of many too, which is faster on a CPU than that of
    diffusers.

    Raises ``TypeError`` for an unknown class on several ranks.
    """
    sharding = Sharding(mesh, kernel)
    if (shard := _SHARDERS.get(type(model).__name__)) is not None:
        shard(model, sharding, on_cpu)
    elif mesh.sequence.size > 1:
        raise TypeError(f"{type(model).__name__} cannot be sharded; {', '.join(_SHARDERS)} can")
    return sharding


def _shard_wan(model: Any, sharding: Sharding, on_cpu: bool) -> None:
    if (name := _DIFFUSERS.get(sharding.kernel)) is not None:
        for block in model.blocks:
            block.attn1.set_attention_backend(name)
            block.attn2.set_attention_backend(name)
    if sharding.mesh.sequence.size == 1:
        embed_distinct_timesteps(model)
        if on_cpu:
            _replace_attention(model, sharding)
        return
    model.rope.register_forward_hook(
        lambda _m, _a, angles: tuple(sharding.local(part, 1) for part in angles)
    )
    embed_distinct_timesteps(model, lambda tokens: sharding.local(tokens, 1))
    model.blocks[0].register_forward_pre_hook(lambda _m, args: (sharding.enter(args[0]), *args[1:]))
    model.proj_out.register_forward_hook(lambda _m, _a, tokens: sharding.leave(tokens))
    _replace_attention(model, sharding)


def _replace_attention(model: Any, sharding: Sharding) -> None:
    for block in model.blocks:
        block.attn1.set_processor(SelfAttention(sharding))


def _shard_hunyuan_video(model: Any, sharding: Sharding, on_cpu: bool) -> None:
    del on_cpu  # its attention is always replaced
    model.register_forward_pre_hook(PaddingCutter(sharding), with_kwargs=True)
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
