"""The causal Wan VAE decoder as two graphs that decode a clip of any length, one latent frame at a
time.

diffusers' decoder keeps a list of feature caches, one per causal convolution, which its modules
read and replace. Here the caches are input and output tensors. Each always holds the last two
frames that its convolution saw, which represents each of the four states of diffusers: nothing yet,
one frame (a zero frame in front is the padding the convolution would have made), ``"Rep"`` (a
temporal upsampler that has passed the first frame on: two zero frames), two frames. So the values
are equal to the bit, in one graph for the first latent frame and one for all others.
"""

from __future__ import annotations

from typing import Any

import torch

from export.components import wan_vae_tile
from export.components.base import Bounds, Component
from export.components.wan_frames import WanFrames
from export.graph import Graph, Port, Size
from export.parameters import fake_parameters

_CACHED_FRAMES = 2  # every causal convolution has a kernel of 3 in time


def graphs(vae: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graphs ``first`` and ``next`` for the engine ``chunked``, ``tile`` for ``tile``,
    and none for ``torch``.
    """
    if bounds.vae_engine == "torch":
        return ()
    return (
        (wan_vae_tile.graph(vae, bounds),) if bounds.vae_engine == "tile" else _chunks(vae, bounds)
    )


def _chunks(vae: Any, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graphs ``first`` and ``next``.

    Both take ``latents``, float32 [1, z_dim, 1, h, w], normalised as the transformer makes them,
    and return ``frames``, float32 [t, H, W, 3]: t is 1 for ``first`` and the temporal compression
    (4) for ``next``. 0 is black and 1 is white; values outside are not clamped, because tiles are
    blended first. Both return ``new_cache_<i>``, which ``next`` takes as ``cache_<i>``, [1, C_i, 2,
    h_i, w_i] in the VAE's precision. h and w are free.
    """
    first, following = _FirstChunk(vae).eval(), _NextChunk(vae).eval()
    sides = bounds.sides(bounds.info.defaults.height, bounds.info.defaults.width)
    latents = Port(
        "latents", torch.float32, (1, vae.config["z_dim"], 1, Size("height"), Size("width"))
    )
    caches = _cache_ports(first, latents)
    outputs = ("frames", *(f"new_{port.name}" for port in caches))
    carried = {f"new_{port.name}": port.name for port in caches}
    return (
        Graph("first", first, (latents,), outputs, sides, carried, turns=True),
        Graph("next", following, (latents, *caches), outputs, sides, carried, turns=True),
    )


def _cache_ports(first: torch.nn.Module, latents: Port) -> tuple[Port, ...]:
    """Return the ports of the caches, found by running the first chunk on fake tensors: no value is
    computed.
    """
    sizes = {"height": 2, "width": 3}
    with fake_parameters(first) as fakes, fakes, torch.no_grad():
        _, *caches = first(torch.zeros(latents.shape(sizes)))
    return tuple(
        Port(
            f"cache_{index}",
            cache.dtype,
            (
                *cache.shape[:3],
                Size("height", cache.shape[3] // 2),
                Size("width", cache.shape[4] // 3),
            ),
        )
        for index, cache in enumerate(caches)
    )


class _FirstChunk(WanFrames):
    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # The decoder counts 1x1x1 convolutions too, which keep no cache: their share of the list
        # stays None at its end.
        states: list[torch.Tensor | str | None] = [None] * self.conv_count
        frames = self.decode(latents, caches=states, first_chunk=True)
        caches: list[torch.Tensor] = []
        for state in states:
            if isinstance(state, torch.Tensor):
                missing = _CACHED_FRAMES - state.shape[2]
                caches.append(torch.nn.functional.pad(state, (0, 0, 0, 0, missing, 0)))
            elif state == "Rep":
                # A temporal upsampler sees what the convolution before it sees: the residual
                # block's last one.
                caches.append(torch.zeros_like(caches[-1]))
        return frames.squeeze(0), *caches


class _NextChunk(WanFrames):
    def forward(self, latents: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = list(caches)
        frames = self.decode(latents, caches=states, first_chunk=False)
        return frames.squeeze(0), *states


def _model_class() -> type[Any]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return AutoencoderKLWan


COMPONENT = Component(_model_class, graphs)
