"""Find the modules of an encoder that its weights make overflow in fp16, by running it on the
inputs of the parity check.

Values over 65504 are infinite in fp16. Whether a layer makes or receives such values depends on its
weights. So the model runs in torch, cast as it would be exported. The first layer that receives or
makes a value that is not finite stays fp32, together with its counterparts in the other blocks;
then the model runs again, until there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.components import Bounds, Component
from export.graph import Graph
from export.parity.cases import cases, inputs
from export.precision import COMPUTING, pattern, set_precision
from export.weights import mapped_model

_SEED = 12


def overflowing_modules(
    component: Component, folder: Path, bounds: Bounds, class_name: str
) -> tuple[str, ...]:
    """Return the modules that overflow with the weights in the checkpoint's ``folder``, for
    `set_precision`.
    """
    return overflowing(
        lambda: mapped_model(component, folder, torch.float32),
        lambda model: component.graphs(model, bounds),
        class_name,
    )


def overflowing(
    load: Callable[[], Any], graphs: Callable[[Any], Sequence[Graph]], class_name: str
) -> tuple[str, ...]:
    """Return the modules that `set_precision` must keep in fp32 beside those it always keeps, with
    ``*`` for each index.

    ``load`` returns the model with its weights, anew at each call; ``graphs`` returns its graphs,
    of one chunk each. The result is empty for VAEs: their layers pass fp16 on, so a layer that
    overflows cannot be kept. Parity rejects those.
    """
    found: list[str] = []
    while not class_name.startswith("Autoencoder"):
        model = load()
        set_precision(model, class_name, "fp16", found)
        names = {module: pattern(name) for name, module in model.named_modules()}
        culprit = next((names[module] for module in _overflowed(graphs(model))), None)
        if culprit is None or culprit in found:
            break
        found.append(culprit)
    return tuple(found)


def _overflowed(graphs: Sequence[Graph]) -> Iterator[nn.Module]:
    """Yield the first module of each case that receives or makes a value that is not finite."""
    for graph in graphs:
        for case in cases(graph):
            values = inputs(graph.inputs, case, torch.Generator().manual_seed(_SEED))
            with torch.no_grad(), _watching(graph.module) as overflowed:
                graph.module(*values.values())
            yield from overflowed[:1]


@contextlib.contextmanager
def _watching(root: nn.Module) -> Iterator[list[nn.Module]]:
    overflowed: list[nn.Module] = []

    def after(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if not all(map(_is_finite, (*args, result))):
            overflowed.append(module)

    computing = (module for module in root.modules() if isinstance(module, COMPUTING))
    handles = [module.register_forward_hook(after) for module in computing]
    try:
        yield overflowed
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())
