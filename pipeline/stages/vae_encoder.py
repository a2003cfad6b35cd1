"""Stage ``vae_encoder``: encodes a reference image to latents for image-to-video, chunk by chunk as
the VAE decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.decoders.image_clip import CHUNK, GREY, chunk_count
from pipeline.ensemble.tensors import IMAGE, IMAGE_LATENTS
from pipeline.families import VideoRequest, family_named
from pipeline.families.model import ModelInfo
from pipeline.families.parts import VAE_ENCODER
from pipeline.ranks.group import RankGroup
from pipeline.sessions.graph import open_graph, to_array
from pipeline.settings import StageSettings


class ImageEncoder(Protocol):
    """Encodes a clip of ``num_frames`` frames, ``image`` and then grey frames, chunk by chunk.

    ``image`` is uint8 (1, H, W, 3); each chunk is normalised latents float32 (1, C, t, h, w).
    """

    def latents(self, image: np.ndarray, num_frames: int) -> Generator[np.ndarray]: ...

    def close(self) -> None: ...


class VaeEncoderStage:
    """Holds the encoder; runs one request at a time."""

    def __init__(self, folder: Path, settings: StageSettings):
        """Open the encoder. Raises ``CheckpointError`` if a graph is missing, or ``RankError`` with
        the error of a worker that fails to start.
        """
        info = ModelInfo.load(folder)
        self._whole_clip = family_named(info.family).image_in_channels
        self._encoder: ImageEncoder = (
            InWorker(settings) if settings.in_torch(VAE_ENCODER) else Graphs(folder, settings)
        )

    def run(
        self, request: VideoRequest, image: np.ndarray, before_chunk: Callable[[int, int], None]
    ) -> np.ndarray:
        """Encode ``image``, uint8 (1, H, W, 3), to normalised latents float32 (1, C, T, h, w).

        They are the latents of the image, with T = 1, or of a clip for models that take it in their
        channels: the image followed by grey frames, as long as the request says. ``before_chunk``
        receives the number of finished runs and their total, and may raise to stop.
        """
        num_frames = request.num_frames if self._whole_clip else 1
        total = chunk_count(num_frames)
        before_chunk(0, total)
        made: list[np.ndarray] = []
        with closing(self._encoder.latents(image, num_frames)) as chunks:
            for latents in chunks:
                made.append(latents)
                if len(made) < total:
                    before_chunk(len(made), total)
        return np.concatenate(made, axis=2)

    def close(self) -> None:
        """End the worker process, if there is one."""
        self._encoder.close()


class Graphs:
    """The pair of graphs that `export.components.wan_vae_encoder` exports: `first`, and `next`,
    which takes caches.
    """

    def __init__(self, folder: Path, settings: StageSettings):
        self._first, self._next = (
            open_graph(folder, name, settings.threads) for name in ("first", "next")
        )
        self._frames, *self._caches = self._next.inputs

    def latents(self, image: np.ndarray, num_frames: int) -> Generator[np.ndarray]:
        frame = image.astype(np.float32) / 255
        grey = np.full((CHUNK, *frame.shape[1:]), GREY, np.float32) if num_frames > 1 else frame
        outputs, caches = ["latents", *(f"new_{name}" for name in self._caches)], dict[str, Any]()
        for index in range(chunk_count(num_frames)):
            session, frames = (self._next, grey) if index else (self._first, frame)
            encoded, *values = session.run(outputs, {self._frames: frames, **caches})
            caches = dict(zip(self._caches, values, strict=True))
            yield to_array(encoded)

    def close(self) -> None:
        """Do nothing: a session needs no cleanup."""


class InWorker:
    """Leads the worker process that holds the encoder in torch."""

    def __init__(self, settings: StageSettings):
        self.ranks = RankGroup(settings, part="vae_encoder")

    def latents(self, image: np.ndarray, num_frames: int) -> Generator[np.ndarray]:
        with closing(self.ranks.chunks({IMAGE.name: image}, num_frames=num_frames)) as chunks:
            for chunk in chunks:
                yield chunk[IMAGE_LATENTS.name]

    def close(self) -> None:
        self.ranks.close()
