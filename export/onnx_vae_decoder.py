"""The causal Wan VAE decoder as two ONNX graphs that decode a clip of any length, one latent frame at a time.

diffusers' decoder keeps a list of feature caches, one per causal convolution, which its modules read and replace. Here
the caches are tensors that go in and out. Each always holds the last two frames that its convolution saw, which stands
for each of the four states diffusers has for it: nothing yet, one frame (a zero frame in front is the padding the
convolution would have made), ``"Rep"`` (a temporal upsampler that has let the first frame through: two zero frames),
two frames. So the values are the same to the bit, in one graph for the first latent frame and one for all others.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanUpsample, unpatchify
from torch.export import Dim

from export.onnx_common import export_onnx, require_component

_CACHED_FRAMES = 2  # every causal convolution has a kernel of 3 in time

# Different from each other and from 1, which the tracer would take for a constant.
_SAMPLE_HEIGHT, _SAMPLE_WIDTH = 2, 3


def export_vae_decoder(component: Path, output: Path) -> None:
    """Writes ``first.onnx`` and ``next.onnx`` of the VAE in the checkpoint folder `component` into the folder `output`.

    Both take ``latents``, float32 [1, z_dim, 1, h, w], normalised as the transformer makes them, and give ``frames``,
    float32 [t, H, W, 3] in [0, 1]: t is 1 for `first` and the temporal compression (4) for `next`. Both give
    ``new_cache_<i>``, which `next` takes as ``cache_<i>``, float32 [1, C_i, 2, h_i, w_i]. h and w are free.

    Raises CheckpointError where `component` is not a model folder.
    """
    require_component(component)
    vae = AutoencoderKLWan.from_pretrained(component, dtype=torch.float32)
    first, following = _FirstChunk(vae), _NextChunk(vae)
    latents = torch.zeros(1, vae.config["z_dim"], 1, _SAMPLE_HEIGHT, _SAMPLE_WIDTH)
    with torch.no_grad():
        _, *caches = first(latents)

    count = len(caches)
    height, width = Dim("h"), Dim("w")
    axes = {3: height, 4: width}
    cache_axes = tuple(
        {3: cache.shape[3] // _SAMPLE_HEIGHT * height, 4: cache.shape[4] // _SAMPLE_WIDTH * width} for cache in caches
    )
    outputs = ["frames", *(f"new_cache_{i}" for i in range(count))]
    export_onnx(
        first, (latents,), output / "first.onnx", inputs=["latents"], outputs=outputs, dynamic_shapes={"latents": axes}
    )
    export_onnx(
        following,
        (latents, *caches),
        output / "next.onnx",
        inputs=["latents", *(f"cache_{i}" for i in range(count))],
        outputs=outputs,
        dynamic_shapes={"latents": axes, "caches": cache_axes},
    )


class _Chunk(torch.nn.Module):
    """Normalised latents of one frame and the list of caches to frames; the list is updated in place."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.patch_size: int = vae.config["patch_size"] or 1
        self.conv_count: int = vae._cached_conv_counts["decoder"]
        self.register_buffer("mean", _per_channel(vae.config["latents_mean"]))
        self.register_buffer("std", _per_channel(vae.config["latents_std"]))
        for module in self.decoder.modules():
            if isinstance(module, WanUpsample):
                # The same at a factor of two, and an operator that ONNX has.
                module.mode = "nearest"

    def decode(self, latents: torch.Tensor, caches: list, *, first_chunk: bool) -> torch.Tensor:
        z = self.post_quant_conv(latents * self.std + self.mean)
        video = self.decoder(z, feat_cache=caches, feat_idx=[0], first_chunk=first_chunk)
        video = unpatchify(video, self.patch_size).clamp(-1.0, 1.0) / 2 + 0.5
        return video.squeeze(0).permute(1, 2, 3, 0)


class _FirstChunk(_Chunk):
    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # The decoder counts 1x1x1 convolutions too, which keep no cache: their share of the list stays None at its end.
        states: list[torch.Tensor | str | None] = [None] * self.conv_count
        frames = self.decode(latents, states, first_chunk=True)
        caches: list[torch.Tensor] = []
        for state in states:
            if isinstance(state, torch.Tensor):
                missing = _CACHED_FRAMES - state.shape[2]
                caches.append(torch.nn.functional.pad(state, (0, 0, 0, 0, missing, 0)))
            elif state == "Rep":
                # A temporal upsampler sees what the convolution before it sees: the residual block's last one.
                caches.append(torch.zeros_like(caches[-1]))
        return frames, *caches


class _NextChunk(_Chunk):
    def forward(self, latents: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = list(caches)
        frames = self.decode(latents, states, first_chunk=False)
        return frames, *states


def _per_channel(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1, 1)
