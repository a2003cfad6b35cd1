"""What an exported graph is: a torch module, its named tensors, and the ranges of its free
dimensions.

Capture, parity and TensorRT all read this one description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.export import Dim

from pipeline.settings import GraphPrecision

DTYPES: Mapping[GraphPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class Size:
    """A free dimension: ``factor`` times a size from the graph's range ``name``."""

    name: str
    factor: int = 1


@dataclass(frozen=True)
class Range:
    """The sizes a free dimension may take, as an optimisation profile of TensorRT has them.

    Kernels are tuned for ``opt``.
    """

    min: int
    opt: int
    max: int


@dataclass(frozen=True)
class Port:
    """A named input tensor. Tests draw integers below ``below``."""

    name: str
    dtype: torch.dtype
    dims: tuple[int | Size, ...]
    below: int = 2

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return its shape, with each free dimension in the size that ``sizes`` has for it."""
        return tuple(
            dim.factor * sizes[dim.name] if isinstance(dim, Size) else dim for dim in self.dims
        )


@dataclass(frozen=True)
class Graph:
    """One ONNX file: ``module`` takes ``inputs`` and returns ``outputs``, both in order.

    ``carried`` maps an output to the input of the graph ``next`` that takes it a chunk later.
    ``turns`` adds an optimization profile in which the ranges of height and width are exchanged.
    ``module`` is in eval mode; its weights may have no memory (see `export.weights`).
    """

    name: str
    module: torch.nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    ranges: Mapping[str, Range]
    carried: Mapping[str, str] = field(default_factory=dict)
    turns: bool = False

    def shapes(
        self, which: Literal["min", "opt", "max"], *, turned: bool = False
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input, by name, with all sizes at ``which`` of their ranges;
        ``turned`` exchanges height and width.
        """
        sizes = {name: getattr(bounds, which) for name, bounds in self.ranges.items()}
        if turned:
            sizes |= {"height": sizes["width"], "width": sizes["height"]}
        return {port.name: port.shape(sizes) for port in self.inputs}

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return zeros to trace with. Sizes differ from each other and from 1, which the tracer
        would take for a constant.
        """
        sizes = {name: 2 + index for index, name in enumerate(self.ranges)}
        return tuple(torch.zeros(port.shape(sizes), dtype=port.dtype) for port in self.inputs)

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Return what ``torch.export.export`` takes, one entry per input."""
        symbols = {name: Dim(name) for name in self.ranges}
        return tuple(
            {
                axis: dim.factor * symbols[dim.name] if dim.factor > 1 else symbols[dim.name]
                for axis, dim in enumerate(port.dims)
                if isinstance(dim, Size)
            }
            for port in self.inputs
        )
