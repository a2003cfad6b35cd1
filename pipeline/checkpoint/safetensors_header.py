"""Check that a safetensors file is complete and list its tensors, from its header and size alone.

Format: 8 bytes little-endian header length, a JSON header with ``data_offsets`` per tensor, then
the data, where tensors follow each other without a gap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from pipeline.checkpoint.regular_files import open_regular
from pipeline.errors import CheckpointError

MAX_HEADER_BYTES = 8 << 20  # a transformer of 14 billion parameters has 0.2 MiB
MAX_NAME = 512
MAX_DIMENSIONS = 8
ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Data type, as safetensors names it -> bytes of an element."""


@dataclass(frozen=True)
class Entry:
    """One tensor: ``dtype`` as safetensors names it (``F32``, ``BF16``), ``start`` and ``end`` as
    byte offsets in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """Return the tensors of ``path`` by name. Raises ``CheckpointError`` as `read_file` does."""
    return read_file(path)[0]


def read_file(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of ``path`` by name, and the texts of its metadata.

    Raises ``CheckpointError`` when it is not a safetensors file, is cut short, or its header
    contradicts itself: duplicate names, bytes that do not match a shape, tensors that overlap.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise CheckpointError(
                f"{path} is not a safetensors file, or is cut short ({size} bytes)"
            )
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{path} has a safetensors header of {length} bytes; at most {MAX_HEADER_BYTES} "
                "are read"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
        entries = {
            _name(name): _entry(name, raw, 8 + length)
            for name, raw in header.items()
            if name != "__metadata__"
        }
        metadata = header.get("__metadata__") or {}
        texts = {key: text for key, text in metadata.items() if isinstance(text, str)}
    except _ContradictionError as error:
        raise CheckpointError(f"{path} has a broken safetensors header: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise CheckpointError(f"{path} has a broken safetensors header") from None
    _require_adjacent(path, entries, 8 + length)
    expected = max((entry.end for entry in entries.values()), default=8 + length)
    if size != expected:
        raise CheckpointError(
            f"{path} is cut short or damaged: {size} bytes, its header speaks of {expected}"
        )
    return entries, texts


class _ContradictionError(ValueError):
    """A contradiction in a header; the message describes it in a few words."""


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _ContradictionError(f"{name[:MAX_NAME]!r} occurs twice")
        found[name] = value
    return found


def _name(name: str) -> str:
    """Return ``name`` if it is valid. Errors print it, so control characters are refused."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise _ContradictionError(f"{name[:MAX_NAME]!r} is not a name of a tensor")
    return name


def _entry(name: str, raw: dict[str, Any], data: int) -> Entry:
    (start, end), dtype, shape = raw["data_offsets"], raw["dtype"], raw["shape"]
    if not all(type(number) is int and number >= 0 for number in (start, end, *shape)):
        raise _ContradictionError(f"{name}: shapes and offsets should be whole numbers")
    if len(shape) > MAX_DIMENSIONS:
        raise _ContradictionError(
            f"{name} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read"
        )
    item = ITEM_BYTES.get(str(dtype))
    if item is not None and end - start != item * prod(shape):
        raise _ContradictionError(f"{name} has {end - start} bytes, which is not {dtype} {shape}")
    return Entry(str(dtype), tuple(shape), data + start, data + end)


def _require_adjacent(path: Path, entries: Mapping[str, Entry], data: int) -> None:
    spans = [(data, data), *sorted((entry.start, entry.end) for entry in entries.values())]
    if any(before[1] != after[0] or after[1] < after[0] for before, after in pairwise(spans)):
        raise CheckpointError(
            f"{path} has a broken safetensors header: its tensors overlap or leave gaps"
        )
