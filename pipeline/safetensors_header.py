"""Is a safetensors file whole, and what is where in it? Told from its header and its size alone.

Format: 8 bytes little-endian header length, a JSON header with ``data_offsets`` per tensor, then the data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError

MAX_HEADER_BYTES = 100 << 20  # the limit of the safetensors library itself


@dataclass(frozen=True)
class Entry:
    """One tensor: ``dtype`` as the format names it (``F32``, ``BF16``), ``start`` and ``end`` in bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def check_safetensors(path: Path) -> None:
    """Raises ``CheckpointError`` when ``path`` is no safetensors file or is cut short."""
    read_header(path)


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of ``path`` by name. Raises ``CheckpointError`` when it is no safetensors file or is cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{path} is not a safetensors file, or is cut short ({size} bytes)")
        try:
            header = json.loads(file.read(length))
            entries = {name: _entry(raw, 8 + length) for name, raw in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise CheckpointError(f"{path} has a broken safetensors header") from None
    expected = max((entry.end for entry in entries.values()), default=8 + length)
    if size != expected:
        raise CheckpointError(f"{path} is cut short or damaged: {size} bytes, its header speaks of {expected}")
    return entries


def _entry(raw: dict[str, Any], data: int) -> Entry:
    start, end = raw["data_offsets"]
    return Entry(str(raw["dtype"]), tuple(int(size) for size in raw["shape"]), data + int(start), data + int(end))
