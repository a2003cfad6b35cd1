"""Offloaded transformers make the same latents as ones that stay on the device."""

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
from pipeline.ranks.group import RankGroup
from pipeline.ranks.offload import ExpertSwapper, offload_layers
from pipeline.settings import Offload
from tests.conftest import SHAPES
from tests.pipeline.ranks.groups import settings
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


def test_layerwise_offload_gives_the_same_velocity() -> None:
    model = transformer()
    expected = velocity(model)
    offload_layers(model, CPU)
    assert all("group_offloading" in block._diffusers_hook.hooks for block in model.blocks)
    assert torch.equal(velocity(model), expected)


class Device:
    """A device that counts the copies made to it and knows which of them are in use."""

    def __init__(self, models: list[WanTransformer3DModel]) -> None:
        self._models, self._mine = models, set[int]()
        self.copied = 0

    def copy_here(self, tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        self._mine.add(copy.data_ptr())
        self.copied += 1
        return copy

    def holds(self) -> list[int]:
        """Return the indexes of the models that have a tensor on the device."""
        return [
            index
            for index, model in enumerate(self._models)
            if any(
                tensor.data_ptr() in self._mine
                for tensor in chain(model.parameters(), model.buffers())
            )
        ]


def test_only_one_expert_at_a_time_is_on_the_device() -> None:
    models = [transformer(seed) for seed in (1, 2)]
    expected = [velocity(model) for model in models]
    device = Device(models)
    experts = ExpertSwapper(models, device.copy_here)
    assert (len(experts), device.holds()) == (2, [])
    with torch.inference_mode():
        for index in (0, 0, 1, 1, 0):
            before = device.copied
            assert torch.equal(velocity(experts[index]), expected[index])
            assert device.holds() == [index]
            again = len(list(chain(models[index].parameters(), models[index].buffers())))
            assert device.copied - before in (0, again), (
                "one that is on the device is not copied again"
            )
    assert device.copied == 3 * again


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("offload", ["expert", "layer"])
def test_offload_on_a_gpu_gives_the_same_latents(
    build_family: Callable[[str], Path], offload: Offload, pin: bool
) -> None:
    path = build_family("wan2.2-t2v")
    tasks = [task(Checkpoint.open(path), 1)]
    with RankGroup(settings(path)) as group:
        expected = alone(group, tasks)
    with RankGroup(settings(path, offload=offload, pin_cpu_memory=pin)) as group:
        equal(group.run_batch(tasks), expected)


@pytest.mark.ranks
def test_offload_on_a_cpu_gives_the_same_latents() -> None:
    tasks = [task(Checkpoint.open(SHAPES), 1)]
    with RankGroup(settings(SHAPES)) as group:
        expected = alone(group, tasks)
    with RankGroup(settings(SHAPES, offload="layer", pin_cpu_memory=True)) as group:
        equal(group.run_batch(tasks), expected)
