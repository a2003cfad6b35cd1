"""The causal Wan VAE decoder as one graph without state: all frames of one tile, or of a few equal
tiles, at once.

diffusers' decoder runs without its list of caches too, but with different results: a temporal
upsampler doubles every frame but the first, and sees zeros in front of the second one. That one
module is replaced. All others do the same on a whole clip as on its chunks, because they pad with
zeros in front or do not look beyond their frame.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds
from export.components.wan_frames import WanFrames
from export.graph import Graph, Port, Range, Size

_TILE, _BATCH = 256, 4  # pixels of the usual tile's side; tiles that one run takes at most


def graph(vae: Any, bounds: Bounds) -> Graph:
    """Return the graph ``tile`` from ``latents``, float32 [B, z_dim, T, h, w] with T > 1, to
    ``frames``, float32 [B, 1 + 4(T - 1), H, W, 3].

    Latents are normalised. 0 is black and 1 is white; values outside are not clamped. ``vae`` is
    changed in place.
    """
    info = bounds.info
    opt, longest = (
        (frames - 1) // info.temporal_compression + 1
        for frames in (info.defaults.num_frames, info.max_frames)
    )
    ranges = {
        "batch": Range(1, 1, _BATCH),
        "time": Range(2, max(2, opt), max(2, longest)),
        **bounds.sides(min(_TILE, info.defaults.height), min(_TILE, info.defaults.width)),
    }
    free = [Size(name) for name in ranges]
    latents = Port("latents", torch.float32, (free[0], vae.config["z_dim"], *free[1:]))
    return Graph("tile", _Tile(vae).eval(), (latents,), ("frames",), ranges, turns=True)


class _Tile(WanFrames):
    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        for block in self.decoder.up_blocks:
            # One class of blocks has a list of one, the other has the module itself.
            if getattr(block, "upsamplers", None) is not None:
                block.upsamplers[0] = _whole_clip(block.upsamplers[0])
            elif getattr(block, "upsampler", None) is not None:
                block.upsampler = _whole_clip(block.upsampler)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decode(latents, caches=None, first_chunk=True)


def _whole_clip(resample: torch.nn.Module) -> torch.nn.Module:
    return _WholeClipUpsample(resample) if resample.mode == "upsample3d" else resample


class _WholeClipUpsample(torch.nn.Module):
    """``WanResample`` in its mode upsample3d on a whole clip, from [B, C, T, h, w] to [B, C', 2T -
    1, 2h, 2w].
    """

    def __init__(self, resample: Any) -> None:
        super().__init__()
        self.time_conv = resample.time_conv
        self.resample = resample.resample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = self.time_conv(x[:, :, 1:])
        pairs = pairs.unflatten(1, (2, x.shape[1])).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        x = torch.cat([x[:, :, :1], pairs], dim=2).transpose(1, 2)
        batch, time = x.shape[:2]
        return self.resample(x.flatten(0, 1)).unflatten(0, (batch, time)).transpose(1, 2)
