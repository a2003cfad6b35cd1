"""How the components of one class are exported: their graphs, whatever the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from export.graph import Graph, Range
from pipeline.families import ModelInfo
from pipeline.settings import ENGINE_PIXELS, VaeEngine


@dataclass(frozen=True)
class Bounds:
    """What profiles are computed from: the served model's sizes, and how its VAE will decode."""

    info: ModelInfo
    vae_engine: VaeEngine = "chunked"
    max_pixels: int = ENGINE_PIXELS

    def sides(self, height: int, width: int) -> dict[str, Range]:
        """Return the ranges of height and width of the latents; opt is ``height`` x ``width``
        pixels.

        The longer side reaches the model's limit, and the shorter one the side of the square with
        ``max_pixels``. Together with their exchange (`Graph.turns`) they take every frame of
        ``max_pixels``.
        """
        cell = self.info.spatial_compression
        longest = self.info.max_side // cell
        shortest = min(math.isqrt(self.max_pixels) // cell, longest)
        low, (h, w) = self.info.patch_size, (height // cell, width // cell)
        high = (shortest, longest) if h <= w else (longest, shortest)
        return {
            "height": Range(low, h, max(h, high[0])),
            "width": Range(low, w, max(w, high[1])),
        }


@dataclass(frozen=True)
class Component:
    """How the components of one class are exported.

    ``model_class`` imports and returns the class (transformers and diffusers take seconds).
    ``graphs`` makes the graphs of a model of that class, whose parameters already have the
    precision that is wanted.
    """

    model_class: Callable[[], type[Any]]
    graphs: Callable[[Any, Bounds], tuple[Graph, ...]]
