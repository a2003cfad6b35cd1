"""Transformers that come to the device in parts make the same latents."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.checkpoint.folder import Checkpoint
from pipeline.parallel.mesh import Mesh
from pipeline.parallel.sharding import shard_transformer
from pipeline.ranks.group import Plan, RankGroup
from pipeline.ranks.offload import InTurns, block_by_block
from pipeline.settings import Resident
from tests.conftest import SHAPES
from tests.pipeline.ranks.test_group_batches import alone, equal, task

CPU = torch.device("cpu")


def transformer(seed: int = 0) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=3,
        rope_max_seq_len=32,
    ).eval()
    shard_transformer(model, Mesh())
    return model


def velocity(model: WanTransformer3DModel) -> torch.Tensor:
    torch.manual_seed(1)
    hidden, text = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 5, 8)
    with torch.inference_mode():
        return model(hidden, torch.tensor([500.0]), text, return_dict=False)[0]


def test_block_by_block_is_the_same() -> None:
    model = transformer()
    expected = velocity(model)
    block_by_block(model, CPU, pin=False)
    assert all("group_offloading" in block._diffusers_hook.hooks for block in model.blocks)
    assert torch.equal(velocity(model), expected)


class Device:
    """Brings copies, and knows which of its copies are in use."""

    def __init__(self, models: list[WanTransformer3DModel]) -> None:
        self._models, self._mine = models, set[int]()
        self.brought = 0

    def bring(self, tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        self._mine.add(copy.data_ptr())
        self.brought += 1
        return copy

    def holds(self) -> list[int]:
        """Models of which a tensor is here."""
        return [
            index
            for index, model in enumerate(self._models)
            if any(
                tensor.data_ptr() in self._mine
                for tensor in chain(model.parameters(), model.buffers())
            )
        ]


def test_one_expert_is_there_at_a_time() -> None:
    models = [transformer(seed) for seed in (1, 2)]
    expected = [velocity(model) for model in models]
    device = Device(models)
    experts = InTurns(models, device.bring, pin=False)
    assert (len(experts), device.holds()) == (2, [])
    with torch.inference_mode():
        for index in (0, 0, 1, 1, 0):
            before = device.brought
            assert torch.equal(velocity(experts[index]), expected[index])
            assert device.holds() == [index]
            again = len(list(chain(models[index].parameters(), models[index].buffers())))
            assert device.brought - before in (0, again), "one that is there is not brought again"
    assert device.brought == 3 * again


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("resident", ["expert", "block"])
def test_on_a_gpu_the_latents_are_the_same(
    build_family: Callable[[str], Path], resident: Resident, pin: bool
) -> None:
    path = build_family("wan2.2-t2v")
    tasks = [task(Checkpoint.open(path), 1)]
    with RankGroup(Plan(path, "fp32", 1)) as group:
        expected = alone(group, tasks)
    with RankGroup(Plan(path, "fp32", 1, resident=resident, pin=pin)) as group:
        equal(group.run_batch(tasks), expected)


def test_on_a_cpu_nothing_is_moved() -> None:
    tasks = [task(Checkpoint.open(SHAPES), 1)]
    with RankGroup(Plan(SHAPES, "fp32", 1)) as group:
        expected = alone(group, tasks)
    with RankGroup(Plan(SHAPES, "fp32", 1, resident="block", pin=True)) as group:
        equal(group.run_batch(tasks), expected)
