"""Exports a component folder as `export.graphs` does, without a checkpoint around it."""

from __future__ import annotations

from pathlib import Path

import torch

from export.capture import capture
from export.components import Bounds, component_for
from export.weights import empty_model
from pipeline.checkpoint import Checkpoint
from tests.conftest import SHAPES

BOUNDS = Bounds(Checkpoint.open(SHAPES).info)


def export_all(part: str, class_name: str, folder: Path, output: Path, bounds: Bounds = BOUNDS) -> None:
    component = component_for(part, class_name)
    model = empty_model(component, folder, torch.float32)
    for graph in component.graphs(model, bounds):
        capture(graph, output / f"{graph.name}.onnx", folder)
