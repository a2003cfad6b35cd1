"""Run the decoder of diffusers' AutoencoderKLHunyuanVideo in torch, without an exported graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from pipeline.decoders.torch_vae import channels_last, device_at, load_vae, to_frames


class TorchHunyuanEngine:
    """Decodes a whole window of a clip at once, on the GPU if there is one."""

    def __init__(self, folder: Path, dtype: torch.dtype, threads: int, device: int = 0) -> None:
        """Load the decoder in the component folder `folder`.

        `threads` is the number of this process's threads (0: all cores), `device` is the index of
        the GPU, if there is one. Raises CheckpointError when the folder cannot be loaded.
        """
        from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import (
            AutoencoderKLHunyuanVideo,
        )

        vae = load_vae(AutoencoderKLHunyuanVideo, folder, dtype, threads)
        self._device = device_at(device)
        self._decoder = channels_last(vae.decoder.to(self._device))
        self._decoder.mid_block = FrameCausalMidBlock(self._decoder.mid_block)
        self._post_quant_conv = channels_last(vae.post_quant_conv.to(self._device))
        self._scale: float = vae.config["scaling_factor"]
        self._dtype = dtype
        self.channels: int = vae.config["latent_channels"]
        self.frames_per_latent: int = vae.config["temporal_compression_ratio"]

    def runs(self, latent_frames: int) -> int:
        del latent_frames
        return 1

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        yield to_frames(self._decode(torch.from_numpy(latents)), as_uint8=as_uint8).numpy()

    @torch.inference_mode()
    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        z = (latents.to(self._device) / self._scale).to(
            self._dtype, memory_format=torch.channels_last_3d
        )
        return self._decoder(self._post_quant_conv(z))[0]


class FrameCausalMidBlock(torch.nn.Module):
    """Computes diffusers' ``HunyuanVideoMidBlock3D`` without its mask of tokens x tokens, which
    would take 20 GB at 1280x720.

    In its attention no frame sees a later one: each frame attends to itself and those before it.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.resnets, self.attentions = block.resnets, block.attentions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.resnets[0](x)
        for attention, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            if attention is not None:
                _, _, *sizes = x.shape
                tokens = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
                tokens = attend_frames(attention, tokens, sizes[1] * sizes[2])
                x = tokens.unflatten(1, sizes).permute(0, 4, 1, 2, 3)
            x = resnet(x)
        return x


def attend_frames(attention: Any, tokens: torch.Tensor, cells: int) -> torch.Tensor:
    """Return the output of diffusers' ``Attention``, with its residual, for ``tokens`` (B, frames x
    cells, C), frame by frame.
    """
    x = attention.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
    query, key, value = (
        project(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    made = [
        scaled_dot_product_attention(
            query[:, :, end - cells : end], key[:, :, :end], value[:, :, :end]
        )
        for end in range(cells, x.shape[1] + 1, cells)
    ]
    return attention.to_out[0](torch.cat(made, dim=2).transpose(1, 2).flatten(2)) + tokens
