"""List the safetensors files of a component, and check that its index agrees with them."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.checkpoint.folder_kinds import instead_of_weights
from pipeline.checkpoint.regular_files import read_json
from pipeline.checkpoint.safetensors_header import Entry, read_header
from pipeline.errors import CheckpointError

WEIGHT_NAMES = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "image_encoder": "model",
}
LOADED_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL")
"""Data types of weights that can be loaded, as safetensors names them."""
_SHARD = re.compile(r"[\w.-]+\.safetensors")


def component_weights(path: Path, component: str) -> list[Path]:
    """Return the safetensors files of the folder ``component`` in the checkpoint ``path``.

    The list is empty for a component without weights. Raises ``CheckpointError``.
    """
    stem = WEIGHT_NAMES.get(component)
    return weight_files(path / component, stem) if stem else []


def weight_files(folder: Path, stem: str) -> list[Path]:
    """Return the safetensors files of a component: one file, or the shards that its index names.

    Raises ``CheckpointError`` when one is missing or both kinds exist.
    """
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    if index.exists() and single.exists():
        # diffusers would read one of them and transformers the other.
        raise CheckpointError(
            f"{folder} holds both {single.name} and {index.name}; remove the one that is not meant"
        )
    files = (
        sorted({folder / shard for shard in _weight_map(index).values()})
        if index.exists()
        else [single]
    )
    for file in files:
        if not file.exists():
            names = [each.name for each in folder.glob("*")]
            raise CheckpointError(f"{file} is missing{instead_of_weights(names, stem)}")
    return files


def read_headers(folder: Path, stem: str) -> dict[Path, dict[str, Entry]]:
    """Return the tensors of a component by file and name.

    Raises ``CheckpointError`` when a file is missing or broken, the index is wrong, or a data type
    is not supported.
    """
    headers = {file: read_header(file) for file in weight_files(folder, stem)}
    for file, header in headers.items():
        for name, entry in header.items():
            if entry.dtype not in LOADED_DTYPES:
                raise CheckpointError(
                    f"{file}: {name} is of type {entry.dtype}; take weights in bf16, fp16 or fp32"
                )
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        _require_agreement(index, headers)
    return headers


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    shards = list(found.values()) if isinstance(found, dict) else []
    if not shards or not all(
        isinstance(shard, str) and _SHARD.fullmatch(shard) for shard in shards
    ):
        raise CheckpointError(
            f"{index} should map each weight to a .safetensors file in the same folder"
        )
    return found  # pyright: ignore[reportReturnType]


def _require_agreement(index: Path, headers: dict[Path, dict[str, Entry]]) -> None:
    """Check that each tensor is in the shard that the index names, and in no other one.

    Raises ``CheckpointError`` when one is not.
    """
    named = {(name, shard) for name, shard in _weight_map(index).items()}
    stored = {(name, file.name) for file, header in headers.items() for name in header}
    for name, shard in sorted(named - stored):
        raise CheckpointError(
            f"{index}: {name!r} is not in {shard}; the index and its shards are of two checkpoints"
        )
    for name, shard in sorted(stored - named):
        raise CheckpointError(
            f"{index}: {shard} holds {name!r}, which the index does not place there"
        )
