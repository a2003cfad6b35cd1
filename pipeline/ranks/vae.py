"""The two halves of a VAE in a worker process: each run of the model makes one chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

from pipeline.decoders import clip
from pipeline.decoders.opening import torch_engine
from pipeline.decoders.torch_vae import DTYPES
from pipeline.decoders.torch_wan import TorchEncoder
from pipeline.ensemble.tensors import FRAMES, IMAGE_LATENTS, LATENTS
from pipeline.families.parts import VAE_DECODER
from pipeline.ranks.messages import Chunks, Setup
from pipeline.ranks.rendezvous import device_of
from pipeline.ranks.wire import Arrays


class Vae(Protocol):
    """Holds one half of a VAE and runs it chunk by chunk."""

    device: str

    def chunks(self, asked: Chunks, arrays: Arrays) -> Iterator[Arrays]:
        """Yield the arrays of each run of the model."""
        ...


def open_vae(setup: Setup) -> Vae:
    """Load the half of the VAE that the setup names. Raises ``CheckpointError``."""
    return VaeDecoder(setup) if setup.part == VAE_DECODER.name else VaeEncoder(setup)


class VaeDecoder:
    """Decodes ``LATENTS``, normalised float32 (1, C, T, h, w), to ``FRAMES`` (t, H, W, 3)."""

    def __init__(self, setup: Setup) -> None:
        self.device = str(device_of(setup.device))
        self._engine = torch_engine(setup.settings, setup.device)

    def chunks(self, asked: Chunks, arrays: Arrays) -> Iterator[Arrays]:
        for frames in self._engine.frames(arrays[LATENTS.name], as_uint8=asked.as_uint8):
            yield {FRAMES.name: frames}


class VaeEncoder:
    """Encodes the clip of `pipeline.decoders.clip.chunks` to ``IMAGE_LATENTS``, float32 (1, C, t,
    h, w).
    """

    def __init__(self, setup: Setup) -> None:
        settings = setup.settings
        self.device = str(device_of(setup.device))
        self._encoder = TorchEncoder(
            settings.checkpoint_path / VAE_DECODER.component,
            DTYPES[settings.vae_precision],
            settings.threads,
            setup.device,
        )

    def chunks(self, asked: Chunks, arrays: Arrays) -> Iterator[Arrays]:
        assert asked.num_frames is not None
        with closing(clip.chunks(arrays, asked.num_frames, asked.size)) as chunks:
            for latents in self._encoder.latents(chunks):
                yield {IMAGE_LATENTS.name: latents}
