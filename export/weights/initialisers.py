"""The values of a graph's initialisers: inside the graph if they are small, otherwise in files
beside it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor, to_torch_dtype

from export.weights.place import share
from export.weights.stored import StoredTensor
from pipeline.errors import OutputError

Source = StoredTensor | torch.Tensor

INLINE_BYTES = 32 << 20
"""Graphs with no more weights than this are one file, which is easy to move."""

_ALIGNMENT = 4096  # required by ONNX, so that a runtime can map the data


def fill(sources: Mapping[ir.Value, Source], graph: Path) -> None:
    """Give each initialiser of a graph, before it is written to ``graph``, its tensor in the type
    it has there.

    Large values are stored in files beside ``graph``: the checkpoint's own files under a second
    name, and ``<graph>.data`` for tensors of another type and for files that cannot be shared.
    Memory does not grow with their size. Raises ``OutputError`` when the disk is full.
    """
    if sum(_nbytes(value) for value in sources) <= INLINE_BYTES:
        for value, source in sources.items():
            value.const_value = _inline(value, source)
        return
    shared = _shared_files(sources, graph.parent)
    data = graph.with_name(f"{graph.name}.data")
    try:
        with data.open("wb") as file:
            for value, source in sources.items():
                if (
                    isinstance(source, StoredTensor)
                    and source.file in shared
                    and _as_stored(value, source)
                ):
                    value.const_value = _external(value, source.file.name, source.offset)
                    continue
                file.seek(-file.tell() % _ALIGNMENT, 1)
                value.const_value = _external(value, data.name, file.tell())
                file.writelines(_pieces(source, _dtype(value)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutputError(
            f"{data.parent.parent} has no space for the weights of {graph.name}"
        ) from None
    if not data.stat().st_size:
        data.unlink()


def _shared_files(sources: Mapping[ir.Value, Source], folder: Path) -> set[Path]:
    """Share those files with ``folder`` that hold some tensor as it is needed, and return them."""
    files = {
        s.file
        for value, s in sources.items()
        if isinstance(s, StoredTensor) and _as_stored(value, s)
    }
    return {file for file in files if share(file, folder / file.name)}


def _as_stored(value: ir.Value, source: StoredTensor) -> bool:
    """Return whether the graph can refer to the bytes in the checkpoint."""
    return source.torch_dtype == _dtype(value) and not source.offset % _dtype(value).itemsize


def _pieces(source: Source, dtype: torch.dtype) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(source, StoredTensor):
        yield from source.chunks(dtype)
    else:
        yield source.detach().to(dtype).contiguous().flatten().view(torch.uint8).numpy().data


def _inline(value: ir.Value, source: Source) -> TorchTensor:
    raw = bytearray().join(_pieces(source, _dtype(value)))
    return TorchTensor(
        torch.frombuffer(raw, dtype=_dtype(value)).reshape(_shape(value)), name=value.name
    )


def _external(value: ir.Value, location: str, offset: int) -> ir.ExternalTensor:
    assert value.dtype is not None
    shape, name = ir.Shape(_shape(value)), value.name or ""
    return ir.ExternalTensor(location, offset, _nbytes(value), value.dtype, shape=shape, name=name)


def _nbytes(value: ir.Value) -> int:
    return torch.Size(_shape(value)).numel() * _dtype(value).itemsize


def _dtype(value: ir.Value) -> torch.dtype:
    assert value.dtype is not None
    return to_torch_dtype(value.dtype)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return value.shape.numpy()
