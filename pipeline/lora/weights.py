"""Load the tensors of a LoRA, and add them to the output or to the weight of a linear layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from pipeline.errors import CheckpointError
from pipeline.lora.adapter import Patch

Layers = Mapping[str, torch.nn.Linear]
"""Linear layers by their names in diffusers."""
Deltas = Mapping[str, tuple["Delta", ...]]
"""Name of a linear layer -> what a LoRA adds to it."""


@dataclass(frozen=True)
class Delta:
    """What one LoRA adds to one linear layer: ``factor`` x up down, and differences of its weight
    and its bias. Tensors have the type and the device of the layer's weight.
    """

    down: torch.Tensor | None
    up: torch.Tensor | None
    full: torch.Tensor | None
    bias: torch.Tensor | None
    factor: float
    bias_factor: float

    def add_to(self, output: torch.Tensor, given: torch.Tensor, scale: float) -> None:
        """Add ``scale`` times the delta to the layer's ``output`` [..., outputs], in place.

        ``given`` is the input of the layer [..., inputs].
        """
        rows, sums = given.flatten(0, -2), output.view(-1, output.shape[-1])
        if self.down is not None and self.up is not None:
            low = functional.linear(rows, self.down)
            sums.addmm_(low, self.up.t(), alpha=scale * self.factor)
        if self.full is not None:
            sums.addmm_(rows, self.full.t(), alpha=scale)
        if self.bias is not None:
            sums.add_(self.bias, alpha=scale * self.bias_factor)

    def merge_into(self, layer: torch.nn.Linear, scale: float) -> None:
        """Add ``scale`` times the delta to the parameters of ``layer``; sums are in float32."""
        weight = layer.weight.detach().float()
        if self.down is not None and self.up is not None:
            weight = weight.addmm(self.up.float(), self.down.float(), alpha=scale * self.factor)
        if self.full is not None:
            weight = weight.add(self.full.float(), alpha=scale)
        layer.weight.data.copy_(weight)
        if self.bias is not None:
            bias = (
                layer.bias.detach().float().add(self.bias.float(), alpha=scale * self.bias_factor)
            )
            layer.bias.data.copy_(bias)


def linear_layers(model: torch.nn.Module) -> Layers:
    """Return the linear layers of a transformer as it was loaded."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def load_deltas(
    patches: Iterable[Patch],
    layers: Layers,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Deltas:
    """Return the tensors of ``patches`` for the linear ``layers`` of a model, on ``device``.

    They have the type of each layer's weight, or ``dtype``. Raises ``CheckpointError`` for a file
    that cannot be read any more.
    """
    found: dict[str, tuple[Delta, ...]] = {}
    with _Reader(device) as reader:
        for patch in patches:
            own = dtype or layers[patch.layer].weight.dtype
            rows = slice(patch.first, patch.last)
            delta = Delta(
                reader.read(patch.file, patch.down, own),
                _rows(reader.read(patch.file, patch.up, own), rows),
                _rows(reader.read(patch.file, patch.full, own), rows),
                _rows(reader.read(patch.file, patch.bias, own), rows),
                patch.factor,
                patch.bias_factor,
            )
            found[patch.layer] = (*found.get(patch.layer, ()), delta)
    return found


def _rows(tensor: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if tensor is None else tensor[rows]


class _Reader:
    """Reads tensors of safetensors files; layers whose names share a tensor share its memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._files: dict[Path, Any] = {}
        self._tensors: dict[tuple[Path, str, torch.dtype], torch.Tensor] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.__exit__(None, None, None)

    def read(self, path: Path, name: str | None, dtype: torch.dtype) -> torch.Tensor | None:
        if name is None:
            return None
        if (path, name, dtype) not in self._tensors:
            try:
                if path not in self._files:
                    self._files[path] = safe_open(path, framework="pt").__enter__()
                tensor = self._files[path].get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}") from None
            # A copy: the file may change while it is mapped.
            self._tensors[path, name, dtype] = tensor.to(self._device, dtype, copy=True)
        return self._tensors[path, name, dtype]
