"""Cast a model to the precision of its graphs, except for what that precision would break.

Precision is part of the ONNX graph, because TensorRT 11 has no switches for it. What computes in a
half precision depends on the kind of model:

- *Encoders* (text, vision) compute their linear layers, convolutions and embeddings in it. All
  between those is fp32: the residual stream, norms, the attention's scores and gates. In fp16 that
  is where T5 overflows: its gated product, which goes into ``wo``, its residual stream and its
  scores, which it does not scale down. So ``wo`` is fp32 as well.
- *VAEs* are cast whole, so that their large activations and caches take half the memory. Their
  norms sum squares over many values and are fp32; so is nearest upsampling, because TensorRT has no
  Resize in BF16. It copies values, so the cast changes nothing.

The casts are hooks: names of parameters stay those of the checkpoint, and the exporter traces them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from export.graph import DTYPES
from pipeline.settings import GraphPrecision

COMPUTING = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Modules that compute in the half precision."""

# Modules by the last part of their name. transformers keeps the same list for fp16
# (`_keep_in_fp32_modules`).
_OVERFLOWING = {"UMT5EncoderModel": ("wo",), "T5EncoderModel": ("wo",)}

# Modules of VAEs by their class.
_VAE_FP32 = (nn.GroupNorm, nn.LayerNorm, nn.Upsample)
_VAE_FP32_NAMES = ("WanRMS_norm",)


def set_precision(
    model: nn.Module, class_name: str, precision: GraphPrecision, overflowing: Collection[str] = ()
) -> tuple[str, ...]:
    """Cast ``model`` in place; call this once. Its weights are in fp32 or have no memory.

    ``overflowing`` are modules of an encoder that its weights forbid to cast (`export.overflow`
    finds them). Returns the modules with weights that stay fp32. In both, names have a ``*`` for
    each index of a list.
    """
    if precision == "fp32":
        return ()
    dtype = DTYPES[precision]
    if class_name.startswith("Autoencoder"):
        kept = _cast_vae(model, dtype)
    else:
        known = _OVERFLOWING.get(class_name, ()) if precision == "fp16" else ()
        kept = _cast_encoder(
            model,
            dtype,
            lambda name: pattern(name) in overflowing or name.rpartition(".")[2] in known,
        )
    return tuple(dict.fromkeys(map(pattern, kept)))


def pattern(name: str) -> str:
    """Return the name that a module shares with its counterparts in the other blocks:
    ``block.3.wo`` becomes ``block.*.wo``.
    """
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _cast_encoder(
    model: nn.Module, dtype: torch.dtype, overflows: Callable[[str], bool]
) -> list[str]:
    kept = []
    for name, module in model.named_modules():
        if isinstance(module, COMPUTING) and not overflows(name):
            module.to(dtype)
            _cast_around(module, dtype, torch.float32)
        elif any(True for _ in module.parameters(recurse=False)):
            kept.append(name)
    return kept


def _cast_vae(model: nn.Module, dtype: torch.dtype) -> list[str]:
    kept = []
    for name, module in model.named_modules():
        if isinstance(module, _VAE_FP32) or type(module).__name__ in _VAE_FP32_NAMES:
            _cast_around(module, torch.float32, dtype)
            if any(True for _ in module.parameters(recurse=False)):
                kept.append(name)
        elif isinstance(module, COMPUTING):
            module.to(dtype)
            _cast_around(module, dtype, dtype)
    return kept


def _cast_around(module: nn.Module, taken: torch.dtype, given: torch.dtype) -> None:
    """Make ``module`` cast floating-point tensors to ``taken`` before it computes, and its result
    to ``given``.
    """

    def before(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        return tuple(map(_to(taken), args)), {
            key: _to(taken)(value) for key, value in kwargs.items()
        }

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(lambda _module, _args, result: _to(given)(result))


def _to(dtype: torch.dtype) -> Callable[[Any], Any]:
    def cast(value: Any) -> Any:
        return (
            value.to(dtype)
            if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value
        )

    return cast
