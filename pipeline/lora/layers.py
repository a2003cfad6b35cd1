"""Add LoRAs to the outputs of linear layers while the transformers run, and switch between them.

The weights of the model never change, so a switch costs nothing and leaves no trace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.lora import LoraFile, LoraUse
from pipeline.lora.adapter import open_adapter
from pipeline.lora.weights import Delta, Deltas, linear_layers, load_deltas


class LoraLayers:
    """The LoRAs that requests choose from, on the device of the transformers ``models``.

    Up to ``most`` of them stay loaded; the least recently used one is freed first.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        models: Sequence[Any],
        files: Iterable[LoraFile],
        device: torch.device,
        most: int,
    ) -> None:
        self._checkpoint, self._device, self._most = checkpoint, device, most
        # Later the names change: a step cache puts modules between the blocks.
        self._layers = [linear_layers(model) for model in models]
        self._paths = {file.name: Path(file.path) for file in files}
        self._loaded: OrderedDict[str, tuple[Deltas, ...]] = OrderedDict()
        self._active: list[dict[str, list[tuple[Delta, float]]]] = [{} for _ in models]
        self._uses: tuple[LoraUse, ...] = ()
        for expert, layers in enumerate(self._layers) if self._paths else ():
            for name, layer in layers.items():
                # First of the layer's hooks: others may gather the shards of its output.
                layer.register_forward_hook(self._adding(expert, name), prepend=True)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded LoRAs, the most recently used one last."""
        return tuple(self._loaded)

    def use(self, uses: tuple[LoraUse, ...]) -> bool:
        """Apply exactly ``uses``, with their scales; load those that are not loaded.

        Returns whether that was a change. Raises ``CheckpointError`` for a file that was removed or
        changed, and then applies none.
        """
        if uses == self._uses:
            return False
        self._uses, self._active = (), [{} for _ in self._layers]
        names = {use.name for use in uses}
        for use in uses:
            if use.name in self._loaded:
                self._loaded.move_to_end(use.name)
                continue
            self._make_space(names)
            self._loaded[use.name] = self._load(use.name)
        for use in uses:
            for active, deltas in zip(self._active, self._loaded[use.name], strict=True):
                for layer, found in deltas.items():
                    scaled = [(delta, use.scale or 0.0) for delta in found]
                    active.setdefault(layer, []).extend(scaled)
        self._uses = uses
        return True

    def _make_space(self, kept: set[str]) -> None:
        while len(self._loaded) >= self._most:
            oldest = next((name for name in self._loaded if name not in kept), None)
            if oldest is None:
                return
            del self._loaded[oldest]

    def _load(self, name: str) -> tuple[Deltas, ...]:
        adapter = open_adapter(self._paths[name], self._checkpoint)
        # A tensor made in inference mode could not be used outside of it.
        with torch.inference_mode(mode=False), torch.no_grad():
            return tuple(
                load_deltas(patches, layers, self._device)
                for patches, layers in zip(adapter.patches, self._layers, strict=True)
            )

    def _adding(self, expert: int, name: str) -> Any:
        def add(_layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            for delta, scale in self._active[expert].get(name, ()):
                delta.add_to(output, inputs[0], scale)

        return add


def merge(
    checkpoint: Checkpoint,
    expert: int,
    model: Any,
    files: Mapping[str, LoraFile],
    uses: Iterable[LoraUse],
) -> None:
    """Add ``uses`` to the weights of ``model``, the transformer with the index ``expert``.

    Raises ``CheckpointError`` for a file that does not fit the model.
    """
    layers, device = linear_layers(model), next(model.parameters()).device
    with torch.no_grad():
        for use in uses:
            patches = open_adapter(Path(files[use.name].path), checkpoint).patches[expert]
            for name, deltas in load_deltas(patches, layers, device, torch.float32).items():
                for delta in deltas:
                    delta.merge_into(layers[name], use.scale or 0.0)
