"""Engine ``tile``: the whole clip in one run without a state. Its memory grows with the length of the clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.decoders.session import OnnxSession, Session, to_array


@dataclass(frozen=True)
class TileEngine:
    """The one graph that `export.components.wan_vae_decoder` makes for tiles, ``tile``."""

    session: Session
    channels: int
    frames_per_latent: int

    @classmethod
    def open(cls, folder: Path, threads: int, frames_per_latent: int) -> Self:
        """``tile.onnx`` of `folder`; raises CheckpointError where it is missing."""
        session = OnnxSession(folder / "tile.onnx", threads)
        return cls(session, int(session.inputs["latents"][1]), frames_per_latent)

    def runs(self, latent_frames: int) -> int:
        del latent_frames
        return 1

    def frames(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        # The graph takes at least two latent frames. A frame depends on earlier ones only, so any second one will do.
        given = latents if latents.shape[2] > 1 else np.repeat(latents, 2, axis=2)
        (frames,) = self.session.run(["frames"], {"latents": given})
        yield to_array(frames)[0, : 1 + (latents.shape[2] - 1) * self.frames_per_latent]
