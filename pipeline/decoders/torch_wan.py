"""Run diffusers' AutoencoderKLWan chunk by chunk in torch, without an exported graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.decoders.torch_vae import channels_last, device_at, load_vae, to_frames


class TorchEngine:
    """Decodes on the GPU if there is one."""

    def __init__(self, folder: Path, dtype: torch.dtype, threads: int, device: int = 0) -> None:
        """Load the decoder in the component folder `folder`.

        `threads` is the number of this process's threads (0: all cores), `device` is the index of
        the GPU, if there is one. Raises CheckpointError when the folder cannot be loaded.
        """
        vae = _load(folder, dtype, threads)
        self._device = device_at(device)
        self._decoder = channels_last(vae.decoder.to(self._device))
        self._post_quant_conv = channels_last(vae.post_quant_conv.to(self._device))
        self._states: int = vae._cached_conv_counts["decoder"]
        self._patch: int = vae.config["patch_size"] or 1
        self._dtype = dtype
        self._mean, self._std = _statistics(vae, self._device)
        self.channels: int = vae.config["z_dim"]
        self.frames_per_latent: int = 2 ** sum(vae.config["temperal_downsample"])

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        # diffusers keeps this list in the model; a separate one lets several clips be decoded at
        # the same time.
        caches: list[Any] = [None] * self._states
        for index in range(latents.shape[2]):
            chunk = torch.from_numpy(latents[:, :, index : index + 1])
            video = self._chunk(chunk, caches, first=not index)
            yield to_frames(video, as_uint8=as_uint8).numpy()

    @torch.inference_mode()
    def _chunk(self, latents: torch.Tensor, caches: list[Any], *, first: bool) -> torch.Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        z = (latents.to(self._device) * self._std + self._mean).to(
            self._dtype, memory_format=torch.channels_last_3d
        )
        video = self._decoder(
            self._post_quant_conv(z), feat_cache=caches, feat_idx=[0], first_chunk=first
        )
        return unpatchify(video.float(), self._patch)[0]


class TorchEncoder:
    """Encodes clips with the VAE's encoder, on the GPU if there is one."""

    def __init__(self, folder: Path, dtype: torch.dtype, threads: int, device: int = 0) -> None:
        """Load the encoder in the component folder `folder`; the arguments are as in `TorchEngine`.

        Raises CheckpointError when the folder cannot be loaded.
        """
        vae = _load(folder, dtype, threads)
        self._device = device_at(device)
        self._encoder = channels_last(vae.encoder.to(self._device))
        self._quant_conv = channels_last(vae.quant_conv.to(self._device))
        self._states: int = vae._cached_conv_counts["encoder"]
        self._patch: int = vae.config["patch_size"] or 1
        self._dtype = dtype
        self._mean, self._std = _statistics(vae, self._device)

    def latents(self, clip: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Encode a clip, whose chunks are those of `pipeline.decoders.clip.chunks`.

        Yields the mode of the latents' distribution, normalised as the transformer takes them,
        float32 (1, C, t, h, w).
        """
        caches: list[Any] = [None] * self._states
        for chunk in clip:
            yield self._chunk(torch.from_numpy(chunk).to(self._device), caches).cpu().numpy()

    @torch.inference_mode()
    def _chunk(self, frames: torch.Tensor, caches: list[Any]) -> torch.Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

        video = (frames * 2 - 1).permute(3, 0, 1, 2).unsqueeze(0)
        video = patchify(video, self._patch).to(self._dtype, memory_format=torch.channels_last_3d)
        encoded = self._encoder(video, feat_cache=caches, feat_idx=[0])
        mode, _ = self._quant_conv(encoded).float().chunk(2, dim=1)
        return (mode - self._mean) / self._std


def _load(folder: Path, dtype: torch.dtype, threads: int) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return load_vae(AutoencoderKLWan, folder, dtype, threads)


def _statistics(vae: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the standard deviation of the latents' channels, (1, C, 1, 1, 1)."""
    mean, std = (
        torch.tensor(vae.config[name], device=device).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    return mean, std
