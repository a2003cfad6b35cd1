"""How much disk an export takes, said before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from export.options import Precision
from export.weights.place import can_share
from export.weights.stored import ITEMS, stored_tensors

GRAPH_BYTES = 32 << 20  # of one graph without the weights that lie beside it: more than any has

_STORED: Mapping[Precision, str] = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


def bytes_needed(folder: Path, precision: Precision, output: Path | None = None, graphs: int = 1) -> int:
    """The most that ``graphs`` graphs of the component in ``folder`` take on disk.

    That is little where ``output``, a folder that exists, can share the checkpoint's own files: on one file system, and
    for tensors that need no conversion. Raises ``CheckpointError`` as ``stored_tensors`` does.
    """
    wanted = _STORED[precision]
    copied = sum(
        tensor.nbytes // ITEMS[tensor.dtype][1] * ITEMS[wanted][1]
        for tensor in stored_tensors(folder).values()
        if output is None or tensor.dtype != wanted or not can_share(tensor.file, output)
    )
    return graphs * (GRAPH_BYTES + copied)
