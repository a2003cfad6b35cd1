"""Ways to make a checkpoint folder hostile or faulty: each takes a whole one and changes it in
place.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def edit(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; a key that is given None becomes null."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def read_tensors(file: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its data."""
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_tensors(file: Path, header: Mapping[str, Any] | str, data: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def keep_tensors(file: Path, keep: Any, rename: Any = lambda name: name) -> None:
    """Write ``file`` anew with the tensors that ``keep(name)`` is true of, under the name
    ``rename(name)``.
    """
    header, data = read_tensors(file)
    kept, blocks, offset = {}, [], 0
    for name, entry in header.items():
        if name == "__metadata__" or not keep(name):
            continue
        block = data[slice(*entry["data_offsets"])]
        kept[rename(name)] = {**entry, "data_offsets": [offset, offset + len(block)]}
        blocks.append(block)
        offset += len(block)
    write_tensors(file, kept, b"".join(blocks))


def add_tensor(file: Path, name: str, dtype: str, shape: list[int], block: bytes) -> None:
    header, data = read_tensors(file)
    header[name] = {
        "dtype": dtype,
        "shape": shape,
        "data_offsets": [len(data), len(data) + len(block)],
    }
    write_tensors(file, header, data + block)


def edit_header(file: Path, **values: Any) -> None:
    """Change keys of the first tensor's entry in the header."""
    header, data = read_tensors(file)
    name = next(name for name in header if name != "__metadata__")
    header[name].update(values)
    write_tensors(file, header, data)


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def to_link(file: Path, target: Path) -> None:
    file.unlink()
    file.symlink_to(target)


def to_scaled_fp8(file: Path) -> None:
    """As ComfyUI writes it: weights of a byte, and a scale beside each."""
    import torch
    from safetensors.torch import load_file, save_file

    made: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(file).items():
        if name.endswith("ffn.net.2.weight"):
            made[name] = (tensor.float() * 16).to(torch.float8_e4m3fn)
            made[name.replace(".weight", ".scale_weight")] = torch.tensor(1 / 16)
        else:
            made[name] = tensor
    save_file(made, file)
