"""Working memory of a denoising step on one rank, in bytes, in addition to its weights.

The formulas are the sums of tensors that are alive at the worst moments of diffusers' blocks and of
`pipeline.parallel`. A test compares them with counts of the real code
(docs/decisions/0025-memory-formulas.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import ModelInfo, VideoRequest
from pipeline.parallel.layout import BATCHED_GUIDANCE_TOKENS, Layout

FP32 = 4
ONE_RANK = Layout()
# Latents in float32 during a step: the sample, two velocities, and the history of a multistep
# solver.
LATENT_COPIES = 5
HUNYUAN_TEXT_TOKENS = 256
"""Tokens of a prompt in HunyuanVideo's joint attention, at most."""


def tokens_of(info: ModelInfo, request: VideoRequest) -> int:
    """Return the number of tokens that the transformer makes of the request's latents."""
    _, _, frames, height, width = info.latent_shape(request)
    return frames * (height // info.patch_size) * (width // info.patch_size)


@dataclass(frozen=True)
class Block:
    """The sizes of a transformer block: widths of the residual stream and of the feed-forward
    layer, and the size of a head. ``per_token``: each token has its own timestep (Wan 2.2 TI2V).
    """

    width: int
    feed_forward: int
    head: int
    joint: bool = False
    per_token: bool = False

    @classmethod
    def of(cls, class_name: str, config: dict[str, Any], *, per_token: bool) -> Block:
        """Read the sizes from a transformer's config; a missing key has its class's default."""
        head = config.get("attention_head_dim", 128)
        if class_name == "WanTransformer3DModel":
            width = config.get("num_attention_heads", 40) * head
            return cls(width, config.get("ffn_dim", 13824), head, per_token=per_token)
        width = config.get("num_attention_heads", 24) * head
        return cls(width, int(width * config.get("mlp_ratio", 4.0)), head, joint=True)


def denoising(
    checkpoint: Checkpoint,
    request: VideoRequest,
    layout: Layout = ONE_RANK,
    itemsize: int = FP32,
    batch: int = 1,
) -> int:
    """Return the working memory of ``batch`` samples on one rank of ``layout``.

    ``itemsize`` is the number of bytes of an element of the transformer.
    """
    block = Block.of(
        checkpoint.classes["transformer"],
        checkpoint.configs["transformer"],
        per_token="expand_timesteps" in checkpoint.family.marks,
    )
    tokens = tokens_of(checkpoint.info, request)
    _, channels, frames, height, width = checkpoint.info.latent_shape(request)
    latents = batch * LATENT_COPIES * channels * frames * height * width * FP32
    both = (
        request.guidance_scale > 1
        and not checkpoint.family.guidance_embedded
        and layout.branches == 1
        and batch * tokens <= BATCHED_GUIDANCE_TOKENS
    )
    return block_peak(block, tokens, layout, itemsize, rows=batch * (1 + both)) + latents


def step_cache(
    checkpoint: Checkpoint,
    request: VideoRequest,
    layout: Layout = ONE_RANK,
    itemsize: int = FP32,
    batch: int = 1,
) -> int:
    """Return the bytes of the residuals on one rank of ``layout``: a hidden state of its tokens for
    each sample and branch of guidance (`pipeline.diffusion.step_cache`).
    """
    config, joint = checkpoint.configs["transformer"], checkpoint.family.guidance_embedded
    block = Block.of(checkpoint.classes["transformer"], config, per_token=False)
    branches = 2 // layout.branches if request.guidance_scale > 1 and not joint else 1
    tokens = -(-tokens_of(checkpoint.info, request) // layout.sequence_ranks)
    return batch * branches * tokens * block.width * itemsize


def block_peak(block: Block, tokens: int, layout: Layout, itemsize: int, rows: int = 1) -> int:
    """Return the peak of the forward pass of ``rows`` sequences of ``tokens`` tokens on one rank.

    The terms are numbers of tensors that are alive at once, each of one width per token.
    """
    shard = -(-tokens // layout.sequence_ranks)
    whole = tokens + (shard if layout.sequence_ranks > 1 else 0)
    angles = 2 * whole * block.head * FP32
    if block.joint:
        row = shard * _joint(block, layout, itemsize)
        row += HUNYUAN_TEXT_TOKENS * _joint(block, layout, itemsize)
    else:
        row = shard * _separate(block, layout, itemsize)
        if layout.sequence_ranks > 1:
            row += 2 * tokens * block.width * itemsize  # the embedded patches, before the split
    if block.per_token:
        # The time embedding and six modulations of every token, and the six in float32.
        row += shard * block.width * (7 * itemsize + 6 * FP32)
    return rows * row + angles


def _separate(block: Block, layout: Layout, size: int) -> int:
    """Return bytes per token of a rank in a block of Wan, with self-attention and cross-attention.

    The moments: the feed-forward layer; its gated sum or rotary embedding, in float32; what Ulysses
    sends and receives, stacked; and the partial results of Ring, in float32.
    """
    width = block.width
    # On one rank the caller still holds what the first block was given.
    streams = 4 if layout.sequence_ranks == 1 else 3
    moments = [
        streams * width * size + 2 * block.feed_forward * size,
        (5 * size + 3 * FP32) * width if size < FP32 else 15 * width * size // 2,
    ]
    if layout.ulysses > 1:
        moments.append(18 * width * size)
    if layout.ring > 1:
        held = 2 * min(layout.ring - 1, 2) + (3 if layout.ulysses > 1 else 0)
        moments.append((6 + held) * width * size + 5 * width * FP32)
    return max(moments)


def _joint(block: Block, layout: Layout, size: int) -> int:
    """Return bytes per token of a rank in a single-stream block of HunyuanVideo.

    The moments: rotary embedding, in float32; the projection of attention and feed-forward layer
    together; what Ulysses sends and receives; and the partial results of Ring, in float32.
    """
    width, inner = block.width, block.feed_forward
    moments = [
        (8 * width + inner) * size + 3 * width * FP32,
        (8 * width + 2 * inner) * size,
    ]
    if layout.ulysses > 1:
        moments.append((20 * width + inner) * size)
    if layout.ring > 1:
        held = 16 if layout.ulysses > 1 else 13
        moments.append((held * width + inner) * size + 5 * width * FP32)
    return max(moments)
