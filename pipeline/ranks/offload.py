"""Transformers that do not lie on the GPU whole: one of two experts at a time, or block by
block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading


def block_by_block(model: Any, device: torch.device, *, pin: bool) -> None:
    """Weights stay on the host, and each block comes to ``device`` when it is run: the next one
    travels meanwhile.

    ``pin`` pins them all from the start, else each when it travels. On a CPU there are no streams
    to travel in.
    """
    streams = device.type == "cuda"
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        non_blocking=streams,
        use_stream=streams,
        record_stream=streams,
        low_cpu_mem_usage=streams and not pin,
    )


class InTurns(Sequence[Any]):
    """Models of which the one that was asked for last is on the device. Their weights stay on
    the host as well.
    """

    def __init__(
        self, models: Sequence[Any], bring: Callable[[torch.Tensor], torch.Tensor], *, pin: bool
    ) -> None:
        """``bring`` copies a tensor to the device; ``pin`` pins what it copies from."""
        self._models, self._bring = models, bring
        self._hosts = [_tensors(model) for model in models]
        if pin:
            for tensor, _ in chain.from_iterable(self._hosts):
                tensor.data = tensor.data.pin_memory()
            self._hosts = [_tensors(model) for model in models]
        self._there: int | None = None

    def __len__(self) -> int:
        return len(self._models)

    def __getitem__(self, index: Any) -> Any:
        if index != self._there:
            # A tensor made in inference mode could not become a parameter's data.
            with torch.inference_mode(mode=False), torch.no_grad():
                if self._there is not None:
                    for tensor, host in self._hosts[self._there]:
                        tensor.data = host
                for tensor, host in self._hosts[index]:
                    tensor.data = self._bring(host)
            self._there = index
        return self._models[index]


def _tensors(model: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Parameters and buffers, each with its data as it is now."""
    return [(tensor, tensor.data) for tensor in chain(model.parameters(), model.buffers())]
