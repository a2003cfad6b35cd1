"""Is a safetensors file whole? Told from its header and its size alone, before anything large is loaded.

Format: 8 bytes little-endian header length, a JSON header with ``data_offsets`` per tensor, then the data.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import CheckpointError

MAX_HEADER_BYTES = 100 << 20  # the limit of the safetensors library itself


def check_safetensors(path: Path) -> None:
    """Raises ``CheckpointError`` when ``path`` is no safetensors file or is cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{path} is not a safetensors file, or is cut short ({size} bytes)")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise CheckpointError(f"{path} has a broken safetensors header") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise CheckpointError(f"{path} is cut short or damaged: {size} bytes, its header speaks of {expected}")
