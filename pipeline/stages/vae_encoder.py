"""Stage ``vae_encoder``: encodes a reference image to latents for image-to-video, chunk by chunk as
the VAE decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.families import VideoRequest, family_named
from pipeline.families.model import ModelInfo
from pipeline.sessions.graph import open_graph, to_array
from pipeline.settings import StageSettings

GREY = 0.5  # diffusers' value for frames without an image: 0 if -1 is black and 1 white


class VaeEncoderStage:
    """The pair of graphs that `export.components.wan_vae_encoder` exports: `first`, and `next`,
    which takes caches.
    """

    def __init__(self, folder: Path, settings: StageSettings):
        """Open the graphs in ``folder``. Raises ``CheckpointError`` if a graph is missing."""
        info = ModelInfo.load(folder)
        self._whole_clip = family_named(info.family).image_in_channels
        self._first, self._next = (
            open_graph(folder, name, settings.threads) for name in ("first", "next")
        )
        self._frames, *self._caches = self._next.inputs

    def run(
        self, request: VideoRequest, image: np.ndarray, before_chunk: Callable[[int, int], None]
    ) -> np.ndarray:
        """Encode ``image``, uint8 (1, H, W, 3), to normalised latents float32 (1, C, T, h, w).

        They are the latents of the image, with T = 1, or of a clip for models that take it in their
        channels: the image followed by grey frames, as long as the request says. ``before_chunk``
        receives the number of finished runs and their total, and may raise to stop.
        """
        frame = image.astype(np.float32) / 255
        length = self._next.inputs[self._frames][0]
        total = 1 + ((request.num_frames - 1) // int(length) if self._whole_clip else 0)
        empty = np.full((int(length), *frame.shape[1:]), GREY, np.float32) if total > 1 else frame
        outputs, caches, latents = ["latents", *(f"new_{name}" for name in self._caches)], {}, []
        for index in range(total):
            before_chunk(index, total)
            session, frames = (self._next, empty) if index else (self._first, frame)
            encoded, *values = session.run(outputs, {self._frames: frames, **caches})
            caches: dict[str, Any] = dict(zip(self._caches, values, strict=True))
            latents.append(to_array(encoded))
        return np.concatenate(latents, axis=2)
