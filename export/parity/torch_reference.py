"""The torch side of the comparison: a component's graphs in fp32, with the checkpoint's weights."""

from __future__ import annotations

from pathlib import Path

import torch

from export.components import Bounds, Component
from export.graph import Graph
from export.weights import mapped_model


def reference_graphs(component: Component, folder: Path, bounds: Bounds) -> tuple[Graph, ...]:
    """Return the graphs of the component in the checkpoint's ``folder``, for `parity.check`."""
    return component.graphs(mapped_model(component, folder, torch.float32), bounds)
