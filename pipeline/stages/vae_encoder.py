"""Stage ``vae_encoder``: encodes images, and videos to edit, to latents, chunk by chunk as the VAE
decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.decoders import clip
from pipeline.decoders.clip import chunk_count
from pipeline.ensemble.tensors import IMAGE, IMAGE_LATENTS, LAST_IMAGE, SOURCE
from pipeline.families import VideoRequest, family_named
from pipeline.families.model import ModelInfo
from pipeline.families.parts import VAE_ENCODER
from pipeline.ranks.group import RankGroup
from pipeline.ranks.wire import Arrays
from pipeline.sessions.graph import open_graph, to_array
from pipeline.settings import StageSettings


class ClipEncoder(Protocol):
    """Encodes the clip of `pipeline.decoders.clip.chunks`, chunk by chunk, to normalised latents
    float32 (1, C, t, h, w).
    """

    def latents(
        self, arrays: Arrays, num_frames: int, size: tuple[int, int]
    ) -> Generator[np.ndarray]: ...

    def close(self) -> None: ...


class VaeEncoderStage:
    """Holds the encoder; runs one request at a time."""

    def __init__(self, folder: Path, settings: StageSettings):
        """Open the encoder. Raises ``CheckpointError`` if a graph is missing, or ``RankError`` with
        the error of a worker that fails to start.
        """
        info = ModelInfo.load(folder)
        self._whole_clip = family_named(info.family).image_in_channels
        self._encoder: ClipEncoder = (
            InWorker(settings) if settings.in_torch(VAE_ENCODER) else Graphs(folder, settings)
        )

    def run(
        self,
        request: VideoRequest,
        arrays: Arrays | np.ndarray,
        before_chunk: Callable[[int, int], None],
    ) -> np.ndarray | None:
        """Encode the inputs of the stage, by the names of their tensors, to normalised latents
        float32 (1, C, T, h, w); a request without an image or a video to edit has none.

        They are the latents of a video to edit, or of ``IMAGE``; or, for models that take images in
        their channels, of a clip as long as the video. ``before_chunk`` receives the number of
        finished runs and their total, and may raise to stop. Repositories that were rendered before
        a request had other files pass the image alone.
        """
        if isinstance(arrays, np.ndarray):
            arrays = {IMAGE.name: arrays}
        edits = request.strength is not None
        names = (SOURCE.name,) if edits else (IMAGE.name, LAST_IMAGE.name)
        given = {name: arrays[name] for name in names if name in arrays}
        if not given:
            return None
        whole = edits or self._whole_clip
        num_frames = request.num_frames if whole else len(given[IMAGE.name])
        total = chunk_count(num_frames)
        before_chunk(0, total)
        made: list[np.ndarray] = []
        encoded = self._encoder.latents(given, num_frames, (request.width, request.height))
        with closing(encoded) as chunks:
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

    def latents(
        self, arrays: Arrays, num_frames: int, size: tuple[int, int]
    ) -> Generator[np.ndarray]:
        outputs, caches = ["latents", *(f"new_{name}" for name in self._caches)], dict[str, Any]()
        with closing(clip.chunks(arrays, num_frames, size)) as chunks:
            for index, frames in enumerate(chunks):
                session = self._next if index else self._first
                encoded, *values = session.run(outputs, {self._frames: frames, **caches})
                caches = dict(zip(self._caches, values, strict=True))
                yield to_array(encoded)

    def close(self) -> None:
        """Do nothing: a session needs no cleanup."""


class InWorker:
    """Leads the worker process that holds the encoder in torch."""

    def __init__(self, settings: StageSettings):
        self.ranks = RankGroup(settings, part="vae_encoder")

    def latents(
        self, arrays: Arrays, num_frames: int, size: tuple[int, int]
    ) -> Generator[np.ndarray]:
        with closing(self.ranks.chunks(arrays, num_frames=num_frames, size=size)) as chunks:
            for chunk in chunks:
                yield chunk[IMAGE_LATENTS.name]

    def close(self) -> None:
        self.ranks.close()
