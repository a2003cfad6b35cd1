"""Scaled dot product attention that also returns the log-sum-exp of its scores, and the merging of
such results.

Softmax over a union of key blocks is a weighted mean of the softmaxes over each, with weights that
follow from their log-sum-exp (Ring Attention, arXiv:2310.01889; the merging is that of
FlashAttention, arXiv:2205.14135).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

_HALF = (torch.float16, torch.bfloat16)
_ALIGNMENT = 8


@dataclass(frozen=True)
class Partial:
    """Attention to some of the keys: ``out`` is float32 [B, H, S, D] and ``lse`` is float32 [B, H,
    S].
    """

    out: torch.Tensor
    lse: torch.Tensor

    def merge(self, other: Partial) -> Partial:
        """Return the attention to the keys of both."""
        lse = torch.logaddexp(self.lse, other.lse)
        ours, theirs = (torch.exp(part.lse - lse).unsqueeze(-1) for part in (self, other))
        return Partial(self.out * ours + other.out * theirs, lse)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attend from queries [B, S, H, D] to keys and values [B, K, H, D]; returns [B, S, H, D].

    ``mask`` is bool [B, K]; True marks the keys that are attended to. PyTorch chooses the kernel:
    cuDNN, flash or memory efficient attention on a GPU.
    """
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return functional.scaled_dot_product_attention(*heads_first, attn_mask=_spread(mask)).transpose(
        1, 2
    )


def attend_block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> Partial:
    """Compute the same attention as ``attend``, with its log-sum-exp. Each row of ``mask`` must
    have a True.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=_bias(mask, q)
        )
    elif mask is None and q.dtype in _HALF:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)
    else:
        bias = None if mask is None else aligned_bias(mask, q)
        out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True)
        lse = lse[..., : q.shape[2]]  # the kernel rounds the length up
    return Partial(out.float(), lse.float())


def aligned_bias(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Return the bias [B, H, S, K] of ``mask`` [B, K] for queries [B, H, S, D], as the memory
    efficient kernel of a GPU accepts it.

    Every stride but the last is a multiple of 8 (``check_supported`` in PyTorch's
    ``mem_eff_attention/kernel_forward.h``), so each row is a part of a longer one.
    """
    keys = mask.shape[1]
    rows = functional.pad(mask, (0, -keys % _ALIGNMENT))
    bias = _bias(rows, query)
    assert bias is not None
    return bias[..., :keys].expand(*query.shape[:3], keys)


def _spread(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask[:, None, None, :]


def _bias(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    if mask is None:
        return None
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, float("-inf"))[
        :, None, None, :
    ]
