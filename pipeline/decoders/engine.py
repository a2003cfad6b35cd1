"""The interface of all engines, which decode latents to frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

BeforeRun = Callable[[int, int], None]
"""Called as ``before_run(i, total)`` before each of ``total`` runs of the engine. It may raise to
stop the decoding.
"""


class Engine(Protocol):
    """Decodes one clip, or one tile of it. May be used from several threads.

    ``channels`` is the number of latent channels. Each latent frame but the first becomes
    ``frames_per_latent`` frames.
    """

    @property
    def channels(self) -> int: ...

    @property
    def frames_per_latent(self) -> int: ...

    def runs(self, latent_frames: int) -> int:
        """The number of arrays that `frames` yields for ``latent_frames`` latent frames."""
        ...

    def frames(self, latents: np.ndarray, *, as_uint8: bool = False) -> Iterator[np.ndarray]:
        """Decode normalised latents, float32 [1, C, T, h, w], to float32 [t, H, W, 3], one array a
        run of the model.

        0 is black and 1 is white; the model may produce values beyond. With ``as_uint8`` the engine
        may return uint8 instead, from 0 to 255.
        """
        ...
