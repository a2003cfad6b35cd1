"""How much disk weights take beside their graphs, said before an export begins."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

from export.options import Precision
from export.weights.stored import stored_tensors

BYTES: Mapping[Precision, int] = {"fp32": 4, "bf16": 2, "fp16": 2}


def bytes_needed(folder: Path, precision: Precision, graphs: int = 1) -> int:
    """The most that the weights of ``graphs`` graphs of the component in ``folder`` take.

    It is nothing in the end where the checkpoint's own files serve as they are, which is seen when
    they are placed. Raises ``CheckpointError`` as ``stored_tensors`` does.
    """
    return (
        graphs
        * BYTES[precision]
        * sum(prod(tensor.shape) for tensor in stored_tensors(folder).values())
    )
