"""Engine ``torch``: runs diffusers' own AutoencoderKLWan chunk by chunk. It needs the checkpoint
and no exported graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint.loading import require_loaded
from pipeline.errors import CheckpointError


class TorchEngine:
    """Decodes on the GPU if there is one. Convolutions use the channels-last layout, with which
    their kernels are fastest.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, threads: int, device: int = 0) -> None:
        """Load the decoder in the component folder `folder`.

        `threads` is the number of this process's threads (0: all cores), `device` is the index of
        the GPU, if there is one. Raises CheckpointError when the folder cannot be loaded.
        """
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

        if threads:
            torch.set_num_threads(threads)
        try:
            loaded: Any = AutoencoderKLWan.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
        vae, report = loaded
        require_loaded(report, folder)
        config = vae.config
        self._device = torch.device(f"cuda:{device}" if torch.cuda.is_available() else "cpu")
        self._decoder = channels_last(vae.decoder.to(self._device).eval())
        self._post_quant_conv = channels_last(vae.post_quant_conv.to(self._device))
        self._states: int = vae._cached_conv_counts["decoder"]
        self._patch: int = config["patch_size"] or 1
        self._dtype = dtype
        self._mean, self._std = (
            torch.tensor(config[name], device=self._device).view(1, -1, 1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        self.channels: int = config["z_dim"]
        self.frames_per_latent: int = 2 ** sum(config["temperal_downsample"])

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        # diffusers keeps this list in the model; a separate one lets several clips be decoded at
        # the same time.
        caches: list[Any] = [None] * self._states
        for index in range(latents.shape[2]):
            yield self._chunk(
                torch.from_numpy(latents[:, :, index : index + 1]), caches, first=not index
            )

    @torch.inference_mode()
    def _chunk(self, latents: torch.Tensor, caches: list[Any], *, first: bool) -> np.ndarray:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        z = (latents.to(self._device) * self._std + self._mean).to(
            self._dtype, memory_format=torch.channels_last_3d
        )
        video = self._decoder(
            self._post_quant_conv(z), feat_cache=caches, feat_idx=[0], first_chunk=first
        )
        video = unpatchify(video.float(), self._patch)[0] / 2 + 0.5
        return np.ascontiguousarray(video.permute(1, 2, 3, 0).cpu().numpy())


def channels_last(module: torch.nn.Module) -> torch.nn.Module:
    """Convert the weights of the module's convolutions to the channels-last layout; return the
    module.
    """
    for part in module.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(part, torch.nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
    return module
