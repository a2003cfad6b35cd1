"""Engine ``chunked``: decodes one latent frame at a time and keeps the past in caches. Its memory
does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.sessions.graph import Session, open_graph, to_array


@dataclass(frozen=True)
class ChunkedEngine:
    """The pair of graphs that `export.components.wan_vae_decoder` exports: `first`, and
    `following`, which takes `caches`.
    """

    first: Session
    following: Session
    caches: Sequence[str]
    channels: int
    frames_per_latent: int

    @classmethod
    def open(cls, folder: Path, threads: int, device: int = 0) -> Self:
        """Open the graphs ``first`` and ``next`` in `folder`.

        Raises CheckpointError if one of them is missing.
        """
        first, following = (open_graph(folder, name, threads, device) for name in ("first", "next"))
        latents, *caches = following.inputs
        channels, frames = following.inputs[latents][1], following.outputs["frames"][0]
        return cls(first, following, caches, int(channels), int(frames))

    def runs(self, latent_frames: int) -> int:
        return latent_frames

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        outputs = ["frames", *(f"new_{name}" for name in self.caches)]
        caches: dict[str, Any] = {}
        for index in range(latents.shape[2]):
            latent = np.ascontiguousarray(latents[:, :, index : index + 1])
            session = self.following if index else self.first
            frames, *values = session.run(outputs, {"latents": latent, **caches})
            caches = dict(zip(self.caches, values, strict=True))
            yield to_array(frames)
