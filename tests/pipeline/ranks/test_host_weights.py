"""Offloaded weights are one copy for all ranks, in memory that is pinned at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from pipeline.ranks.host_weights import ALIGNMENT, HostWeights, load_shared
from tests.conftest import ROOT
from tests.pipeline.ranks.test_offload import transformer, velocity

MEASURE = """
import sys, torch
from pipeline.ranks.host_weights import HostWeights
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
torch.set_num_threads(1)
before = peak()
model = torch.nn.ModuleList(torch.nn.Linear(1024, 1100, bias=False) for _ in range(40))
weights = HostWeights.move(model)
weights.pin(lambda address, size: None)
print((peak() - before) / weights.size)
"""


def empty() -> Any:
    with torch.device("meta"):
        return transformer()


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moved_weights_are_equal_and_aligned_in_one_block(dtype: torch.dtype) -> None:
    model = transformer().to(dtype)
    model.condition_embedder.float()  # as diffusers keeps it
    before = {name: tensor.detach().clone() for name, tensor in tensors(model).items()}

    weights = HostWeights.move(model)

    pinned: list[tuple[int, int]] = []
    weights.pin(lambda address, size: pinned.append((address, size)))
    ((start, size),) = pinned
    after = tensors(model)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == before[name].dtype
        assert tensor.data_ptr() % ALIGNMENT == 0
        assert start <= tensor.data_ptr() <= start + size - tensor.nbytes
    total = sum(tensor.nbytes for tensor in after.values())
    assert total <= size < total + ALIGNMENT * len(after)


def test_weights_that_modules_share_stay_shared() -> None:
    model = torch.nn.ModuleDict({"shared": torch.nn.Linear(3, 5), "own": torch.nn.Linear(3, 5)})
    model["shared"].weight = model["own"].weight
    HostWeights.move(model)
    assert model["shared"].weight is model["own"].weight


def test_peak_of_memory_while_moving_is_that_of_the_weights() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0.95 < float(done.stdout) < 1.15


def test_ranks_share_the_weights_of_rank_0() -> None:
    store = dist.HashStore()
    expected = velocity(transformer())

    with ThreadPoolExecutor() as pool:
        follower = pool.submit(load_shared, "dit", pytest.fail, empty, store, leads=False)
        first, _ = load_shared("dit", transformer, empty, store, leads=True)
        second, _ = follower.result(timeout=30)

    assert torch.equal(velocity(second), expected)
    assert not any(tensor.is_meta for tensor in tensors(second).values())
    with torch.no_grad():
        first.proj_out.bias += 1
    assert torch.equal(second.proj_out.bias, first.proj_out.bias), "it is the same memory"


def test_another_process_can_attach_the_weights() -> None:
    model: WanTransformer3DModel = transformer()
    weights = HostWeights.move(model)
    script = (
        "import sys, torch\n"
        "from pipeline.ranks.host_weights import HostWeights\n"
        "weights = HostWeights.model_validate_json(sys.argv[1])\n"
        "with torch.device('meta'):\n"
        "    linear = torch.nn.Module()\n"
        "    linear.proj_out = torch.nn.Linear(24, 16)\n"
        "weights.attach(linear)\n"
        "print(linear.proj_out.weight.sum().item())\n"
    )
    command = [sys.executable, "-c", script, weights.model_dump_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) == model.proj_out.weight.sum().item()


def test_a_tensor_that_was_not_moved_is_an_error() -> None:
    weights = HostWeights.move(torch.nn.Linear(2, 2, bias=False))
    with torch.device("meta"):
        other = torch.nn.Linear(2, 2)
    with pytest.raises(KeyError, match="bias"):
        weights.attach(other)
