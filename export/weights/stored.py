"""The tensors of a component folder by name, where they lie in its safetensors files. Nothing is loaded to say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint import read_json, weight_files
from pipeline.errors import CheckpointError
from pipeline.safetensors_header import read_header

if TYPE_CHECKING:
    import torch

ITEMS: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""The data types that are understood, as the format names them: torch's name, and bytes of an element."""

_CHUNK_BYTES = 32 << 20  # what is read at once: enough for a disk, little for a machine


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: ``offset`` and ``nbytes`` in bytes, ``dtype`` a key of ``ITEMS``."""

    name: str
    file: Path
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, ITEMS[self.dtype][0])

    def chunks(self, dtype: torch.dtype) -> Iterator[bytes | bytearray]:
        """Its elements in order as ``dtype``, little-endian, in pieces of a few MiB: never the whole in memory."""
        stored, left = self.torch_dtype, self.nbytes
        with self.file.open("rb") as file:
            file.seek(self.offset)
            while left:
                piece = bytearray(file.read(min(left, _CHUNK_BYTES)))
                if len(piece) < min(left, _CHUNK_BYTES):
                    raise CheckpointError(f"{self.file} ended while {self.name} was read: it was changed meanwhile")
                left -= len(piece)
                yield piece if dtype == stored else _converted(piece, stored, dtype)

    def mapped(self) -> torch.Tensor:
        """Its values, mapped into memory from the file: pages come as they are read, and can go again."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(self.name)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the component folder, which has one safetensors file or an index of several.

    Raises ``CheckpointError`` that names the file which is missing, cut short or not of this format.
    """
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder, _stem(folder)):
        for name, entry in read_header(file).items():
            if entry.dtype not in ITEMS:
                raise CheckpointError(f"{file}: {name} is of type {entry.dtype}, not of {', '.join(ITEMS)}")
            nbytes = entry.end - entry.start
            if nbytes != prod(entry.shape) * ITEMS[entry.dtype][1]:
                raise CheckpointError(f"{file}: {name} has {nbytes} bytes, which is not {entry.dtype} {entry.shape}")
            found[name] = StoredTensor(name, file, entry.start, nbytes, entry.dtype, entry.shape)
    return found


def _stem(folder: Path) -> str:
    """diffusers and transformers name their weights differently, and diffusers signs its configs."""
    return "diffusion_pytorch_model" if "_diffusers_version" in read_json(folder / "config.json") else "model"


def _converted(piece: bytearray, stored: torch.dtype, wanted: torch.dtype) -> bytes:
    import torch

    return torch.frombuffer(piece, dtype=stored).to(wanted).view(torch.uint8).numpy().tobytes()
