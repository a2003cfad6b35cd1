"""Component folders with random weights, written shard by shard: no more than a few MiB of them
are ever in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHARD_BYTES = 4 << 30
_BLOCK = 4 << 20  # random numbers, repeated: an export does not look at them

_NAMES = {"float32": "F32", "bfloat16": "BF16"}


def umt5(folder: Path, dtype: str, **sizes: Any) -> int:
    """The encoder of UMT5-XXL, or one of other ``sizes``. Returns bytes of weights."""
    import torch
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    xxl: dict[str, Any] = {
        "vocab_size": 256384,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
    }
    config = UMT5Config(**{**xxl, **sizes}, feed_forward_proj="gated-gelu")
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    return _write(folder, "model", dict(model.named_parameters()), dtype)


def wan_vae(folder: Path, dtype: str) -> int:
    """The VAE of Wan 2.1: base_dim 96 and z_dim 16 are diffusers' own defaults. Returns bytes of
    weights.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    with torch.device("meta"):
        model = AutoencoderKLWan()
    model.save_config(folder)
    return _write(folder, "diffusion_pytorch_model", dict(model.named_parameters()), dtype)


def _write(folder: Path, stem: str, parameters: Mapping[str, Any], dtype: str) -> int:
    import torch

    torch.manual_seed(0)
    block = (
        torch.randn(_BLOCK).mul(0.02).to(getattr(torch, dtype)).view(torch.uint8).numpy().tobytes()
    )
    item = len(block) // _BLOCK
    index: dict[str, str] = {}
    for number, shard in enumerate(_shards(parameters, item)):
        name = f"{stem}-{number + 1:05}.safetensors"
        _write_shard(
            folder / name, {n: parameters[n].shape for n in shard}, _NAMES[dtype], item, block
        )
        index.update(dict.fromkeys(shard, name))
    (folder / f"{stem}.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    return sum(parameter.numel() for parameter in parameters.values()) * item


def _shards(parameters: Mapping[str, Any], item: int) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name, parameter in parameters.items():
        if shard and size + parameter.numel() * item > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += parameter.numel() * item
    yield shard


def _write_shard(
    path: Path, shapes: Mapping[str, Any], dtype: str, item: int, block: bytes
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + shape.numel() * item
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        while end:
            end -= file.write(block[: min(end, len(block))])
