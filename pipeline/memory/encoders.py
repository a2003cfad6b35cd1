"""Working memory of a text or image encoder, in bytes, in addition to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FP32 = 4
TOKENS = 512
"""The most tokens of a prompt; the default of diffusers' pipelines."""


def encoding(config: Mapping[str, Any], itemsize: int) -> int:
    """Return the working memory of an encoder of a prompt, or of an image's patches.

    Counted are the scores of attention with their bias and result, in float32, and the residual,
    query, key, value and feed-forward layer of a block.
    """
    config = config.get("vision_config") or config
    width = config.get("d_model") or config.get("hidden_size", 4096)
    inner = config.get("d_ff") or config.get("intermediate_size", 4 * width)
    heads = config.get("num_heads") or config.get("num_attention_heads", 64)
    return TOKENS * TOKENS * heads * 3 * FP32 + TOKENS * (5 * width + 3 * inner) * itemsize
