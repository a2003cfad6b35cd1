"""Engine ``tile``: decodes the whole clip in one run, without state. Its memory grows with the
length of the clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.sessions.graph import Session, open_graph, to_array


@dataclass(frozen=True)
class TileEngine:
    """The single graph ``tile`` of a Wan or HunyuanVideo VAE. It takes at least
    ``min_latent_frames`` latent frames.
    """

    session: Session
    channels: int
    frames_per_latent: int
    min_latent_frames: int

    @classmethod
    def open(
        cls,
        folder: Path,
        threads: int,
        frames_per_latent: int,
        *,
        min_latent_frames: int,
        device: int = 0,
    ) -> Self:
        """Open the graph ``tile`` in `folder`; raises CheckpointError if it is missing."""
        session = open_graph(folder, "tile", threads, device)
        return cls(session, int(session.inputs["latents"][1]), frames_per_latent, min_latent_frames)

    def runs(self, latent_frames: int) -> int:
        del latent_frames
        return 1

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        del as_uint8
        # In a causal decoder a frame depends only on earlier ones, so the padding after the last
        # frame does not change it.
        missing = max(0, self.min_latent_frames - latents.shape[2])
        given = (
            np.pad(latents, [(0, 0), (0, 0), (0, missing), (0, 0), (0, 0)]) if missing else latents
        )
        (frames,) = self.session.run(["frames"], {"latents": given})
        yield to_array(frames)[0, : 1 + (latents.shape[2] - 1) * self.frames_per_latent]
