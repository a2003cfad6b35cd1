"""Count the peak live bytes of a forward pass on the meta device, without weights.

The real code of diffusers and of `pipeline.parallel` runs with the real sizes and computes nothing.
Counted are the tensors that are alive at the same time, not the workspace of kernels.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from diffusers.models.transformers import transformer_hunyuan_video, transformer_wan
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.memory.transformer import HUNYUAN_TEXT_TOKENS
from pipeline.parallel import usp
from pipeline.parallel.attention import Partial
from pipeline.parallel.layout import Layout
from pipeline.parallel.mesh import Axis, Mesh
from pipeline.parallel.sharding import shard_transformer

META = torch.device("meta")


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


class SilentAxis(Axis):
    """An axis whose collectives allocate what those of real ranks do, and send nothing."""

    def all_to_all(self, chunks: torch.Tensor) -> torch.Tensor:
        return chunks if self.size == 1 else torch.empty_like(chunks.contiguous())

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.size == 1:
            return tensor.unsqueeze(0)
        return tensor.contiguous().new_empty((self.size, *tensor.shape))

    def start_shift(self, tensor: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        return torch.empty_like(tensor), []


def _attend(query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """An attention kernel that needs no memory but its result, as those of GPUs."""
    return torch.empty_like(query)


def _attend_block(query: torch.Tensor, *_: Any, **__: Any) -> Partial:
    out = torch.empty_like(query.transpose(1, 2)).float()
    return Partial(out, out.new_empty(out.shape[:-1]))


def _unique(values: torch.Tensor, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two distinct values, which the meta device cannot find."""
    return values.new_empty(2), torch.empty(values.shape, dtype=torch.int64, device=META)


@contextmanager
def counted() -> Iterator[LiveBytes]:
    with (
        patch.object(transformer_wan, "dispatch_attention_fn", _attend),
        patch.object(transformer_hunyuan_video, "dispatch_attention_fn", _attend),
        patch.object(functional, "scaled_dot_product_attention", _attend),
        patch.object(usp, "attend", _attend),
        patch.object(torch, "unique", _unique),
        patch.object(usp, "attend_block", _attend_block),
        torch.inference_mode(),
        LiveBytes() as live,
    ):
        yield live


def transformer_peak(
    cls: type[Any],
    config: dict[str, Any],
    latents: tuple[int, ...],
    layout: Layout,
    dtype: torch.dtype,
    *,
    per_token: bool = False,
) -> int:
    """Return the peak of a forward pass of ``latents`` (channels, frames, height, width)."""
    mesh = Mesh(*(SilentAxis(n) for n in (layout.ulysses, layout.ring, layout.sequence_ranks, 1)))
    with META:
        model = cls(**config).eval()
    for name, parameter in model.named_parameters():
        if not any(kept in name.split(".") for kept in cls._keep_in_fp32_modules or []):
            parameter.data = parameter.data.to(dtype)
    shard_transformer(model, mesh)
    _, frames, height, width = latents
    tokens = frames * (height // 2) * (width // 2)
    with META:
        timestep = torch.empty(1, tokens) if per_token else torch.empty(1)
        inputs = {"hidden_states": torch.empty(1, *latents, dtype=dtype)}
        inputs |= _conditions(model, dtype)
    with counted() as live:
        model(timestep=timestep, return_dict=False, **inputs)
    return live.peak


def _conditions(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    config = model.config
    if "text_embed_dim" not in config:
        made = {"encoder_hidden_states": torch.empty(1, 512, config.text_dim, dtype=dtype)}
        if config.image_dim:
            made["encoder_hidden_states_image"] = torch.empty(1, 257, config.image_dim, dtype=dtype)
        return made
    # The hook reads the lengths from the mask's values, which the meta device has not.
    model._forward_pre_hooks.clear()
    model._forward_pre_hooks_with_kwargs.clear()
    return {
        "encoder_hidden_states": torch.empty(
            1, HUNYUAN_TEXT_TOKENS, config.text_embed_dim, dtype=dtype
        ),
        "encoder_attention_mask": torch.ones(1, HUNYUAN_TEXT_TOKENS, dtype=dtype),
        "pooled_projections": torch.empty(1, config.pooled_projection_dim, dtype=dtype),
        "guidance": torch.empty(1, dtype=dtype),
    }


def wan_decoder_bytes(vae: Any, cells: tuple[int, int], dtype: torch.dtype) -> tuple[int, int]:
    """Return the bytes of the caches, and the peak, of decoding frames of ``cells`` latent cells
    with the decoder of ``vae``, which is on the meta device.
    """
    vae.to(dtype)
    caches: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    between = 0
    with counted() as live:
        for index in range(3):
            z = torch.empty(1, vae.config.z_dim, 1, *cells, dtype=dtype, device=META)
            z = vae.post_quant_conv(z)
            vae.decoder(z, feat_cache=caches, feat_idx=[0], first_chunk=not index)
            del z
            between = live.live
    return between, live.peak


def wan_encoder_bytes(vae: Any, side: tuple[int, int], dtype: torch.dtype) -> tuple[int, int]:
    """Return the bytes of the caches, and the peak, of encoding frames of ``side`` patches."""
    vae.to(dtype)
    caches: list[Any] = [None] * vae._cached_conv_counts["encoder"]
    between = 0
    with counted() as live:
        for frames in (1, 4, 4):
            x = torch.empty(1, vae.config.in_channels, frames, *side, dtype=dtype, device=META)
            vae.encoder(x, feat_cache=caches, feat_idx=[0])
            del x
            between = live.live
    return between, live.peak


def hunyuan_decoder_bytes(vae: Any, latents: tuple[int, int, int], dtype: torch.dtype) -> int:
    """Return the peak of decoding a window of ``latents`` (frames, height, width), without the
    mask of attention.
    """
    vae.to(dtype)
    with counted() as live:
        z = torch.empty(1, vae.config.latent_channels, *latents, dtype=dtype, device=META)
        vae.decoder(vae.post_quant_conv(z))
    return live.peak
