"""LoRA: low-rank matrices beside the linear layers of a transformer, and the file they are kept in.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

FILE_NAME = "pytorch_lora_weights.safetensors"  # as diffusers' `save_lora_weights` names it
PRESET_NAME = "triton_video.json"


class LowRank(nn.Module):
    """A linear layer whose weights stay as they are, plus ``up @ down``, which begins as zero."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.up(self.down(x))


def options(description: str | None, name: str) -> argparse.Namespace:
    """Return the command line's options of a recipe for the LoRA ``name``: work (a folder, which is
    made), model, output and seed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("build") / name)
    parser.add_argument("--model", type=Path, default=Path("models/shapes"))
    parser.add_argument("--output", type=Path, default=Path("models/loras") / name)
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args()
    found.work.mkdir(parents=True, exist_ok=True)
    return found


def add_low_rank(transformer: nn.Module, rank: int) -> nn.ModuleDict:
    """Put a `LowRank` in the place of every linear layer of the blocks; freeze everything else.

    Returns the new layers by their names in the transformer, with "/" for ".".
    """
    transformer.requires_grad_(False)
    found = [
        (name, layer)
        for name, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith("blocks.")
    ]
    added = nn.ModuleDict()
    for name, layer in found:
        parent, _, attribute = name.rpartition(".")
        added[name.replace(".", "/")] = LowRank(layer, rank)
        setattr(transformer.get_submodule(parent), attribute, added[name.replace(".", "/")])
    return added


def save(added: nn.ModuleDict, folder: Path, preset: dict[str, float] | None = None) -> None:
    """Write the matrices in bf16 as diffusers names them, and the request's defaults."""
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in added.items():
        assert isinstance(layer, LowRank)
        prefix = f"transformer.{name.replace('/', '.')}"
        tensors[f"{prefix}.lora_A.weight"] = layer.down.weight.detach().bfloat16().contiguous()
        tensors[f"{prefix}.lora_B.weight"] = layer.up.weight.detach().bfloat16().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE_NAME)
    if preset:
        (folder / PRESET_NAME).write_text(json.dumps(preset, indent=2) + "\n", encoding="utf-8")
