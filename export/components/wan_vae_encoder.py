"""The causal Wan VAE encoder, for reference images, as two graphs that encode a clip of any length.

diffusers' encoder keeps a list of feature caches, as its decoder does; here they are input and
output tensors. The cache of a causal convolution holds the last two frames that it saw, or one and
a zero frame in front, which is the padding it would have made. The cache of a temporal downsampler
holds the one frame before its next stride.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components.base import Bounds, Component
from export.graph import Graph, Port, Size
from export.parameters import fake_parameters
from pipeline.decoders.clip import CHUNK


def graphs(vae: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graphs ``first`` and ``next``.

    They take ``frames``, float32 [t, H, W, 3] with 0 for black and 1 for white, where t is 1 for
    ``first`` and 4 for ``next``. They return ``latents``, float32 [1, z_dim, t', h, w]: the mode of
    their distribution, normalised as the transformer takes them. Both return ``new_cache_<i>``,
    which ``next`` takes as ``cache_<i>``: [1, C_i, 1 or 2, h_i, w_i] in the precision of the VAE. H
    and W are free multiples of the spatial compression.
    """
    info = bounds.info
    cell = info.spatial_compression
    sides = bounds.sides(info.defaults.height, info.defaults.width)
    image, clip = (
        Port("frames", torch.float32, (frames, Size("height", cell), Size("width", cell), 3))
        for frames in (1, CHUNK)
    )
    first, following, caches = _chunks(vae, image, clip)
    outputs = ("latents", *(f"new_{port.name}" for port in caches))
    carried = {f"new_{port.name}": port.name for port in caches}
    return (
        Graph("first", first, (image,), outputs, sides, carried, turns=True),
        Graph("next", following, (clip, *caches), outputs, sides, carried, turns=True),
    )


def _chunks(
    vae: Any, image: Port, clip: Port
) -> tuple[torch.nn.Module, torch.nn.Module, tuple[Port, ...]]:
    """Return the two modules and the caches between them, found by running both on fake tensors: no
    value is computed.
    """
    first, following = _FirstChunk(vae).eval(), _NextChunk(vae).eval()
    sizes = {"height": 2, "width": 3}
    with fake_parameters(torch.nn.ModuleList([first, following])) as fakes, fakes, torch.no_grad():
        _, *caches = first(torch.zeros(image.shape(sizes)))
        _, *later = following(torch.zeros(clip.shape(sizes)), *caches)
    first.cached_frames = tuple(cache.shape[2] for cache in later)
    ports = tuple(
        Port(
            f"cache_{index}",
            cache.dtype,
            (
                *cache.shape[:3],
                Size("height", cache.shape[3] // 2),
                Size("width", cache.shape[4] // 3),
            ),
        )
        for index, cache in enumerate(later)
    )
    return first, following, ports


class _Chunk(torch.nn.Module):
    """Encodes frames to the normalised mode of their latents; the list of caches is updated in
    place.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.patch_size: int = vae.config["patch_size"] or 1
        self.conv_count: int = vae._cached_conv_counts["encoder"]
        for name in ("mean", "std"):
            self.register_buffer(
                name, torch.tensor(vae.config[f"latents_{name}"]).view(1, -1, 1, 1, 1)
            )

    def encode(self, frames: torch.Tensor, caches: list) -> torch.Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

        video = (frames * 2 - 1).permute(3, 0, 1, 2).unsqueeze(0)
        video = patchify(video, self.patch_size).to(self.quant_conv.weight.dtype)
        mode, _ = (
            self.quant_conv(self.encoder(video, feat_cache=caches, feat_idx=[0]))
            .float()
            .chunk(2, dim=1)
        )
        return (mode - self.mean) / self.std


class _FirstChunk(_Chunk):
    cached_frames: tuple[int, ...] = ()

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # The encoder counts 1x1x1 convolutions too, which keep no cache: their share of the list
        # stays None at its end.
        states: list[torch.Tensor | None] = [None] * self.conv_count
        latents = self.encode(frames, states)
        caches = [state for state in states if state is not None]
        missing = [
            wanted - cache.shape[2]
            for wanted, cache in zip(self.cached_frames, caches, strict=False)
        ]
        padded = [
            torch.nn.functional.pad(cache, (0, 0, 0, 0, n, 0))
            for n, cache in zip(missing, caches, strict=False)
        ]
        return latents, *(padded or caches)


class _NextChunk(_Chunk):
    def forward(self, frames: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = list(caches)
        latents = self.encode(frames, states)
        return latents, *states


def _model_class() -> type[Any]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return AutoencoderKLWan


COMPONENT = Component(_model_class, graphs)
