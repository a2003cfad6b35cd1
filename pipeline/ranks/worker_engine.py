"""A VAE decoder in a worker process, as an engine of `pipeline.decoders`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from pipeline.checkpoint.folder import Checkpoint
from pipeline.decoders.opening import HUNYUAN
from pipeline.ensemble.tensors import FRAMES, LATENTS
from pipeline.families.parts import VAE_DECODER
from pipeline.ranks.group import RankGroup
from pipeline.settings import StageSettings


class WorkerEngine:
    """Decodes in torch on one device. A worker that dies, hangs or runs out of memory is replaced;
    its request fails with ``RankError``, and the next one works.
    """

    def __init__(self, settings: StageSettings, device: int = 0) -> None:
        """Start the worker on the GPU with the index ``device``, if there are GPUs.

        Raises ``RankError`` with the error of a worker that fails to start.
        """
        checkpoint = Checkpoint.open(settings.checkpoint_path)
        self.channels: int = checkpoint.info.latent_channels
        self.frames_per_latent: int = checkpoint.info.temporal_compression
        self._causal = checkpoint.classes[VAE_DECODER.component] != HUNYUAN
        self.ranks = RankGroup(settings, part="vae_decoder", first_device=device)

    def runs(self, latent_frames: int) -> int:
        return latent_frames if self._causal else 1

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        with closing(self.ranks.chunks({LATENTS.name: latents}, as_uint8=as_uint8)) as chunks:
            for chunk in chunks:
                yield chunk[FRAMES.name]

    def close(self) -> None:
        self.ranks.close()
