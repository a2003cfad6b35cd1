"""Replace the parameters of a model by other tensors; tied ones stay tied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def replace_parameters(
    module: torch.nn.Module, value: Callable[[str, torch.Tensor], torch.Tensor]
) -> None:
    """Replace each parameter by ``value(name, parameter)``, which is called once for a parameter of
    several modules.
    """
    made: dict[int, tuple[torch.Tensor, torch.nn.Parameter]] = {}
    for path, part in module.named_modules():
        for leaf, old in part.named_parameters(recurse=False):
            if id(old) not in made:  # keeping `old` keeps its id unique
                new = value(f"{path}.{leaf}" if path else leaf, old)
                made[id(old)] = old, torch.nn.Parameter(new, requires_grad=False)
            part.register_parameter(leaf, made[id(old)][1])


@contextlib.contextmanager
def fake_parameters(module: torch.nn.Module) -> Iterator[FakeTensorMode]:
    """Within the block, make the module's parameters fakes on the CPU, of the mode that is yielded.

    So a module can be traced whether its parameters have memory or not, and their values are never
    read.
    """
    mode = FakeTensorMode(
        allow_non_fake_inputs=True, shape_env=ShapeEnv(tracked_fakes=[]), export=True
    )
    before = [
        (part, leaf, old)
        for part in module.modules()
        for leaf, old in part.named_parameters(recurse=False)
    ]
    replace_parameters(
        module, lambda _, old: FakeTensor(mode, old.detach().to("meta"), torch.device("cpu"))
    )
    try:
        yield mode
    finally:
        for part, leaf, old in before:
            part.register_parameter(leaf, old)
