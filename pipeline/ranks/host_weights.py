"""Weights that wait in the host's memory: one copy for all ranks of a group, pinned if asked for.

PyTorch's own pinned memory rounds each tensor up to a power of two, and each rank would have a
copy.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from itertools import chain
from typing import Any, Self

import torch
import torch.distributed as dist
from pydantic import BaseModel, PrivateAttr

ALIGNMENT = 256
"""Bytes between the starts of tensors: the alignment of CUDA's own allocations."""
Register = Callable[[int, int], None]
"""Pins memory, given its address and its size in bytes."""


class Slot(BaseModel):
    """The place of one parameter or buffer: its offset in bytes, and its type and shape."""

    offset: int
    dtype: str
    shape: tuple[int, ...]


class HostWeights(BaseModel):
    """The weights of one model in an anonymous file, which other processes open by ``path``."""

    path: str
    size: int
    slots: dict[str, Slot]
    _memory: torch.Tensor = PrivateAttr()

    @classmethod
    def move(cls, model: torch.nn.Module) -> Self:
        """Move the parameters and buffers of ``model`` into a new file, one at a time.

        Each original is freed before the next one is copied, so both copies never exist at once.
        """
        slots, size = dict[str, Slot](), 0
        for name, tensor in _tensors(model):
            slots[name] = Slot(
                offset=size, dtype=str(tensor.dtype).removeprefix("torch."), shape=tensor.shape
            )
            size += math.ceil(tensor.nbytes / ALIGNMENT) * ALIGNMENT
        # Open for as long as this process lives: the other ranks find the file by the descriptor.
        descriptor = os.memfd_create("triton-video-weights")
        os.ftruncate(descriptor, size)
        weights = cls(path=f"/proc/{os.getpid()}/fd/{descriptor}", size=size, slots=slots)
        weights._map(descriptor)
        for name, tensor in _tensors(model):
            # Not a new parameter: modules may share this one.
            tensor.data = weights._view(name).copy_(tensor.detach())
        return weights

    def attach(self, model: torch.nn.Module) -> None:
        """Give ``model``, made on the meta device, the weights of the rank that moved them.

        Raises ``KeyError`` if the model has a tensor that the file does not.
        """
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            self._map(descriptor)
        finally:
            os.close(descriptor)
        for name in [name for name, _ in _tensors(model)]:
            _put(*_owner(model, name), self._view(name))

    def pin(self, register: Register) -> None:
        """Pin the memory of this process's copy in one call of ``register``."""
        register(self._memory.data_ptr(), self.size)

    def _map(self, descriptor: int) -> None:
        self._memory = torch.frombuffer(mmap.mmap(descriptor, self.size), dtype=torch.uint8)

    def _view(self, name: str) -> torch.Tensor:
        slot = self.slots[name]
        dtype: torch.dtype = getattr(torch, slot.dtype)
        size = math.prod(slot.shape) * dtype.itemsize
        return self._memory[slot.offset : slot.offset + size].view(dtype).view(slot.shape)


def load_shared(
    key: str,
    load: Callable[[], Any],
    empty: Callable[[], Any],
    store: dist.Store | None,
    *,
    leads: bool,
) -> tuple[Any, HostWeights]:
    """Return a model whose weights all ranks of a group share, and the weights.

    Rank 0 calls ``load`` and announces the weights in ``store`` under ``key``; the others wait for
    them and call ``empty``, which makes the model on the meta device. A single rank has no store.
    """
    if leads:
        model = load()
        weights = HostWeights.move(model)
        if store:
            store.set(key, weights.model_dump_json())
    else:
        assert store
        weights = HostWeights.model_validate_json(store.get(key))
        model = empty()
        weights.attach(model)
    return model, weights


def _tensors(model: torch.nn.Module) -> chain[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _owner(model: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _put(owner: torch.nn.Module, leaf: str, tensor: torch.Tensor) -> None:
    parameter = leaf in owner._parameters
    setattr(owner, leaf, torch.nn.Parameter(tensor, requires_grad=False) if parameter else tensor)
