"""Offloading of transformers to CPU memory: by expert, or layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading


def offload_layers(model: Any, device: torch.device) -> None:
    """Keep weights on the host and copy each block to ``device`` when it runs; on a GPU the next
    block is copied at the same time.

    Weights that are not pinned are pinned block by block, each when it is copied.
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
        low_cpu_mem_usage=streams,
    )


class ExpertSwapper(Sequence[Any]):
    """Models of which only the last accessed one is on the device. The host keeps the weights of
    all.
    """

    def __init__(
        self, models: Sequence[Any], to_device: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """``to_device`` copies a tensor to the device."""
        self._models, self._to_device = models, to_device
        self._hosts = [_tensors(model) for model in models]
        self._loaded: int | None = None

    def __len__(self) -> int:
        return len(self._models)

    def __getitem__(self, index: Any) -> Any:
        if index != self._loaded:
            # A tensor made in inference mode could not become a parameter's data.
            with torch.inference_mode(mode=False), torch.no_grad():
                self.release()
                for tensor, host in self._hosts[index]:
                    tensor.data = self._to_device(host)
            self._loaded = index
        return self._models[index]

    def release(self) -> None:
        """Free the device's memory: all models are then on the host only."""
        if self._loaded is not None:
            with torch.inference_mode(mode=False), torch.no_grad():
                for tensor, host in self._hosts[self._loaded]:
                    tensor.data = host
            self._loaded = None


def _tensors(model: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the parameters and buffers of ``model``, each with its current data."""
    return [(tensor, tensor.data) for tensor in chain(model.parameters(), model.buffers())]
