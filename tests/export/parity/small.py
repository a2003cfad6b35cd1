"""Two graphs of a few layers with a cache between them, as those of a VAE, which export in a
second.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from export.capture import capture
from export.graph import DTYPES, Graph, Port, Range, Size
from pipeline.settings import GraphPrecision

WIDTH = 6


class Layers(nn.Module):
    """``x`` and what is remembered of the chunk before, to ``y`` and what is remembered of this
    one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(WIDTH, 9)
        self.middle = nn.Sequential(nn.SiLU(), nn.Linear(9, 9), nn.LayerNorm(9))
        self.out = nn.Linear(9, WIDTH)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.into(x.to(self.into.weight.dtype))
        if memory is not None:
            hidden = hidden + 0.5 * memory
        hidden = self.middle(hidden)
        return self.out(hidden).float(), hidden


def graphs(precision: GraphPrecision = "fp32") -> tuple[Graph, ...]:
    """``first`` and ``next`` with the same weights at every call."""
    torch.manual_seed(5)
    layers = Layers().to(DTYPES[precision]).eval()
    x = Port("x", torch.float32, (Size("rows"), WIDTH))
    memory = Port("memory", DTYPES[precision], (Size("rows"), 9))
    ranges = {"rows": Range(1, 16, 64)}
    outputs, carried = ("y", "new_memory"), {"new_memory": "memory"}
    return (
        Graph("first", layers, (x,), outputs, ranges, carried),
        Graph("next", layers, (x, memory), outputs, ranges, carried),
    )


def export(folder: Path, precision: GraphPrecision = "fp32") -> Path:
    for graph in graphs(precision):
        capture(graph, folder / f"{graph.name}.onnx")
    return folder


def spoil(path: Path, weight: str, value: float) -> None:
    """Add ``value`` to the first element of the initialiser whose name ends in ``weight``."""
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(weight))
    _add(tensor, value)
    onnx.save(model, path)


def spoil_layer(path: Path, layer: str, value: float) -> None:
    """Add ``value`` to the first element of the first weight that a node of ``layer`` reads,
    whatever it is called.
    """
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.dims}
    nodes = (
        node
        for node in model.graph.node
        if any(f"{layer}'" in entry.value for entry in node.metadata_props)
    )
    _add(next(weights[name] for node in nodes for name in node.input if name in weights), value)
    onnx.save(model, path)


def _add(tensor: onnx.TensorProto, value: float) -> None:
    array = np.array(numpy_helper.to_array(tensor))
    array.flat[0] += np.asarray(value, array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
