"""Scaled dot product attention with each kernel, also with the log-sum-exp of its scores, and the
merging of such results.

Softmax over a union of key blocks is a weighted mean of the softmaxes over each, with weights that
follow from their log-sum-exp (Ring Attention, arXiv:2310.01889; the merging is that of
FlashAttention, arXiv:2205.14135).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.import_utils import (
    is_flash_attn_3_available,
    is_sageattention_available,
    is_sageattention_version,
)
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.parallel.backends import Kernel, Target

_HALF = (torch.float16, torch.bfloat16)
_ALIGNMENT = 8
_OF_PYTORCH = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
_SAGE_VERSION = "2.1.1"  # the oldest that diffusers takes


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


def target_of(device: torch.device, dtype: torch.dtype, head: int) -> Target:
    """Return what attention in ``dtype`` with heads of ``head`` numbers runs on, on ``device``."""
    gpu = device.type == "cuda"
    packages = {
        "flash_attn_3": is_flash_attn_3_available(),
        "sageattention": is_sageattention_available()
        and is_sageattention_version(">=", _SAGE_VERSION),
    }
    return Target(
        gpu=gpu,
        half=dtype in _HALF,
        head=head,
        capability=torch.cuda.get_device_capability(device) if gpu else None,
        packages=frozenset(name for name, installed in packages.items() if installed),
    )


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    kernel: Kernel = "native",
) -> torch.Tensor:
    """Attend from queries [B, S, H, D] to keys and values [B, K, H, D]; returns [B, S, H, D].

    ``mask`` is bool [B, K]; True marks the keys that are attended to. PyTorch chooses the kernel
    if there is a mask, and for ``native``.
    """
    if mask is None and kernel in _PACKAGES:
        return _PACKAGES[kernel](query, key, value)[0]
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if mask is None and kernel in _OF_PYTORCH:
        with sdpa_kernel(_OF_PYTORCH[kernel]):
            out = functional.scaled_dot_product_attention(q, k, v)
    else:
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=_spread(mask))
    return out.transpose(1, 2)


def attend_block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    kernel: Kernel = "native",
) -> Partial:
    """Compute the same attention as ``attend``, with its log-sum-exp. Each row of ``mask`` must
    have a True.

    ``native`` is FlashAttention, or on a GPU in float32 or with a mask the memory efficient kernel.
    """
    if mask is None and kernel in _PACKAGES:
        out, lse = _PACKAGES[kernel](query, key, value)
        return Partial(out.transpose(1, 2).float(), lse.float())
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=_bias(mask, q)
        )
    elif mask is None and kernel == "cudnn":
        # diffusers found wrong results where the tensors are not contiguous.
        rows = (tensor.contiguous() for tensor in (q, k, v))
        out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(*rows, None, True)
        lse = lse.view(out.shape[:-1])  # since PyTorch 2.9 it has a dimension of 1 at the end
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


def _flash3(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    """Return the attention [B, S, H, D] and its log-sum-exp [B, H, S], by FlashAttention-3."""
    package = importlib.import_module("flash_attn_interface")
    out, lse, *_ = package.flash_attn_func(query, key, value, return_attn_probs=True)
    return out, lse


def _sage(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
    """Return the attention [B, S, H, D] and its log-sum-exp [B, H, S], by SageAttention."""
    package = importlib.import_module("sageattention")
    out, lse, *_ = package.sageattn(query, key, value, tensor_layout="NHD", return_lse=True)
    return out, lse


_PACKAGES = {"flash3": _flash3, "sage": _sage}


def _spread(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask[:, None, None, :]


def _bias(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    if mask is None:
        return None
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, float("-inf"))[
        :, None, None, :
    ]
