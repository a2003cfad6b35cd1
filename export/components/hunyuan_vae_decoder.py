"""The VAE decoder of HunyuanVideo as one graph that decodes a tile of a clip.

diffusers decodes tiles of 256 x 256 pixels and 5 latent frames and blends them, in time too: group
normalisation and attention see all frames of a tile, so a clip cannot be decoded in chunks with
caches.

Three of its modules are replaced by equal ones made of other operators. The middle block makes its
causal mask from the shape that was traced, upsampling takes another path for a single frame, and
group normalisation would become ``InstanceNormalization``, which ONNX Runtime computes with one
long sum: for a tile of 256 x 256 its error is 1e-2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Range, Size

_TILE, _TILE_LATENTS = 256, 5  # pixels and latent frames of the tiles that diffusers makes
_BATCH = 4  # tiles that one run takes at most


def graphs(vae: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graph ``tile`` from ``latents``, float32 [B, C, T, h, w], to ``frames``, float32
    [B, 1 + 4(T - 1), H, W, 3].

    Latents are as the transformer makes them. In frames 0 is black and 1 is white; values outside
    are not clamped, because tiles are blended first. ``vae`` is changed in place.
    """
    info = bounds.info
    cell = info.spatial_compression
    side = Range(info.patch_size, _TILE // cell, max(_TILE // cell, info.patch_size))
    ranges = {
        "batch": Range(1, 1, _BATCH),
        "time": Range(1, _TILE_LATENTS, _TILE_LATENTS),
        "height": side,
        "width": side,
    }
    batch, *sizes = (Size(name) for name in ranges)
    latents = Port("latents", torch.float32, (batch, vae.config["latent_channels"], *sizes))
    return (Graph("tile", _Tile(vae).eval(), (latents,), ("frames",), ranges),)


class _Tile(torch.nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.scaling_factor: float = vae.config["scaling_factor"]
        self.decoder.mid_block = _MidBlock(self.decoder.mid_block)
        for block in self.decoder.up_blocks:
            if block.upsamplers is not None:
                block.upsamplers[0] = _Upsample(block.upsamplers[0])
        for module in self.decoder.modules():
            if isinstance(module, torch.nn.GroupNorm):
                # The same module: its weights keep their names, and what was hooked to it stays.
                module.__class__ = _GroupNorm

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        z = (latents / self.scaling_factor).to(self.post_quant_conv.weight.dtype)
        video = self.decoder(self.post_quant_conv(z)).float()
        return video.permute(0, 2, 3, 4, 1) / 2 + 0.5


class _MidBlock(torch.nn.Module):
    """``HunyuanVideoMidBlock3D``: residual blocks with attention between them, in which no frame
    sees a later one.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.resnets = block.resnets
        self.attentions = block.attentions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.resnets[0](x)
        for attention, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            if attention is not None:
                batch, _, time, height, width = x.shape
                tokens = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
                tokens = attention(tokens, attention_mask=_causal(time, height * width, batch, x))
                x = tokens.unflatten(1, (time, height, width)).permute(0, 4, 1, 2, 3)
            x = resnet(x)
        return x


def _causal(time: int, cells: int, batch: int, like: torch.Tensor) -> torch.Tensor:
    """Return what is added to the scores, [batch, tokens, tokens]: minus infinity where a token
    belongs to a later frame.
    """
    frames = torch.arange(time, device=like.device).unsqueeze(1).expand(time, cells).flatten()
    later = frames.unsqueeze(0) > frames.unsqueeze(1)
    mask = torch.zeros_like(later, dtype=like.dtype).masked_fill(later, float("-inf"))
    return mask.expand(batch, *mask.shape)


class _GroupNorm(torch.nn.GroupNorm):
    """``GroupNorm`` of [B, C, ...] computed with means of means."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name it has in torch
        x = input
        groups = x.float().unflatten(1, (self.num_groups, x.shape[1] // self.num_groups))
        groups = groups - _mean(groups)
        groups = groups * torch.rsqrt(_mean(groups.square()) + self.eps)
        scale, shift = (
            value.float().view(-1, *[1] * (x.dim() - 2)) for value in (self.weight, self.bias)
        )
        return (groups.flatten(1, 2) * scale + shift).to(x.dtype)


def _mean(groups: torch.Tensor) -> torch.Tensor:
    """Return the mean over all but batch and group, over the last dimension first, so that sums
    stay short.
    """
    return groups.mean(-1, keepdim=True).mean(tuple(range(2, groups.dim() - 1)), keepdim=True)


class _Upsample(torch.nn.Module):
    """``HunyuanVideoUpsampleCausal3D``: doubles every frame but the first in time."""

    def __init__(self, upsample: Any) -> None:
        super().__init__()
        self.factors: tuple[int, ...] = tuple(int(factor) for factor in upsample.upsample_factor)
        self.conv = upsample.conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # TensorRT has no Resize in bf16; copies are the same in fp32.
        copied = functional.interpolate(
            x.float().contiguous(), scale_factor=self.factors, mode="nearest"
        ).to(x.dtype)
        return self.conv(copied[:, :, self.factors[0] - 1 :])


def _model_class() -> type[Any]:
    from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo


COMPONENT = Component(_model_class, graphs)
