"""The tensors of a component folder by name, where they lie in its safetensors files. Nothing is
loaded to say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.regular_files import read_json
from pipeline.checkpoint.weight_files import WEIGHT_NAMES, read_headers
from pipeline.errors import CheckpointError

if TYPE_CHECKING:
    import torch

TORCH_NAMES: Mapping[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Torch's name of each data type that is loaded (`pipeline.checkpoint.weight_files.LOADED`), by
the format's name.
"""

_CHUNK_BYTES = 32 << 20  # what is read at once: enough for a disk, little for a machine


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: ``offset`` and ``nbytes`` in bytes, ``dtype`` a key of
    ``TORCH_NAMES``.
    """

    name: str
    file: Path
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, TORCH_NAMES[self.dtype])

    def chunks(self, dtype: torch.dtype) -> Iterator[bytes | bytearray]:
        """Its elements in order as ``dtype``, little-endian, in pieces of a few MiB: never the
        whole in memory.
        """
        stored, left = self.torch_dtype, self.nbytes
        with self.file.open("rb") as file:
            file.seek(self.offset)
            while left:
                piece = bytearray(file.read(min(left, _CHUNK_BYTES)))
                if len(piece) < min(left, _CHUNK_BYTES):
                    raise CheckpointError(
                        f"{self.file} ended while {self.name} was read: it was changed meanwhile"
                    )
                left -= len(piece)
                yield piece if dtype == stored else _converted(piece, stored, dtype)

    def mapped(self) -> torch.Tensor:
        """Its values, mapped into memory from the file: pages come as they are read, and can go
        again.
        """
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(self.name)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the component folder, which has one safetensors file or an index of several.

    Raises ``CheckpointError`` that names the file which is missing, cut short or not of this
    format.
    """
    return {
        name: StoredTensor(
            name, file, entry.start, entry.end - entry.start, entry.dtype, entry.shape
        )
        for file, header in read_headers(folder, _stem(folder)).items()
        for name, entry in header.items()
    }


def _stem(folder: Path) -> str:
    """The name of the weights' files: the component's. In other folders the config tells, which
    diffusers signs.
    """
    if known := WEIGHT_NAMES.get(folder.name):
        return known
    return (
        "diffusion_pytorch_model"
        if "_diffusers_version" in read_json(folder / "config.json")
        else "model"
    )


def _converted(piece: bytearray, stored: torch.dtype, wanted: torch.dtype) -> bytes:
    import torch

    return torch.frombuffer(piece, dtype=stored).to(wanted).view(torch.uint8).numpy().tobytes()
