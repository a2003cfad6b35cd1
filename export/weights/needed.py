"""Estimate how much disk space weights take beside their graphs, before an export begins."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

from export.weights.stored import stored_tensors
from pipeline.settings import GraphPrecision

BYTES: Mapping[GraphPrecision, int] = {"fp32": 4, "bf16": 2, "fp16": 2}


def bytes_needed(folder: Path, precision: GraphPrecision, graphs: int = 1) -> int:
    """Return the most that the weights of ``graphs`` graphs of the component in ``folder`` can
    take.

    They take nothing where the checkpoint's own files can be shared, which is known when they are
    placed. Raises ``CheckpointError`` as ``stored_tensors`` does.
    """
    return (
        graphs
        * BYTES[precision]
        * sum(prod(tensor.shape) for tensor in stored_tensors(folder).values())
    )
