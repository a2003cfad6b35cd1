"""How the components of one class are exported: their graphs, whatever the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from export.graph import Graph
from pipeline.families import ModelInfo
from pipeline.settings import VaeEngine


@dataclass(frozen=True)
class Bounds:
    """What profiles are computed from: the served model's sizes, and how its VAE will decode."""

    info: ModelInfo
    vae_engine: VaeEngine = "chunked"


@dataclass(frozen=True)
class Component:
    """How the components of one class are exported.

    ``model_class`` imports and returns the class (transformers and diffusers take seconds).
    ``graphs`` makes the graphs of a model of that class, whose parameters already have the
    precision that is wanted.
    """

    model_class: Callable[[], type[Any]]
    graphs: Callable[[Any, Bounds], tuple[Graph, ...]]
