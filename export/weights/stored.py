"""The tensors of a component folder by name, and where its safetensors files store them. Nothing is
loaded.
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

_CHUNK_BYTES = 32 << 20  # read at once: fast on a disk, small in memory


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file; ``offset`` is in bytes, ``dtype`` a key of ``TORCH_NAMES``."""

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
        """Yield its elements in order as ``dtype``, little-endian, in pieces of a few MiB."""
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
        """Return its values, mapped from the file: the kernel reads pages on demand and can drop
        them again.
        """
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(self.name)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of the component folder, which has one safetensors file or an index of
    several.

    Raises ``CheckpointError`` that names the file that is missing, cut short or not of this format.
    """
    return {
        name: StoredTensor(
            name, file, entry.start, entry.end - entry.start, entry.dtype, entry.shape
        )
        for file, header in read_headers(folder, _stem(folder)).items()
        for name, entry in header.items()
    }


def _stem(folder: Path) -> str:
    """Return the name of the weights' files: the component's, or in other folders what the config
    says, which diffusers signs.
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
