"""Low-rank matrices beside a transformer, and the file they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from models.recipe.low_rank import FILE_NAME, PRESET_NAME, LowRank, add_low_rank, save


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[0](self.proj(x))


def test_new_matrices_change_nothing_and_are_all_that_is_trained() -> None:
    torch.manual_seed(0)
    model, x = Tiny(), torch.randn(3, 4)
    before = model(x)
    added = add_low_rank(model, rank=2)
    assert torch.equal(model(x), before)
    assert list(added) == ["blocks/0/0", "blocks/0/1"]
    trained = {id(each) for each in model.parameters() if each.requires_grad}
    low = [layer for layer in added.values() if isinstance(layer, LowRank)]
    assert trained == {id(part.weight) for each in low for part in (each.down, each.up)}


def test_the_file_has_the_names_of_diffusers(tmp_path: Path) -> None:
    added = add_low_rank(Tiny(), rank=2)
    save(added, tmp_path / "it", {"guidance_scale": 1.0})
    tensors = load_file(tmp_path / "it" / FILE_NAME)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "transformer.blocks.0.0.lora_A.weight": (2, 4),
        "transformer.blocks.0.0.lora_B.weight": (6, 2),
        "transformer.blocks.0.1.lora_A.weight": (2, 6),
        "transformer.blocks.0.1.lora_B.weight": (4, 2),
    }
    assert json.loads((tmp_path / "it" / PRESET_NAME).read_text()) == {"guidance_scale": 1.0}
