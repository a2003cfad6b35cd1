"""Putting other tensors in the place of a model's parameters, tied ones staying tied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def replace_parameters(
    module: torch.nn.Module, value: Callable[[str, torch.Tensor], torch.Tensor]
) -> None:
    """Each parameter becomes ``value(name, parameter)``, which is asked once for a parameter of
    several modules.
    """
    made: dict[int, tuple[torch.Tensor, torch.nn.Parameter]] = {}
    for path, part in module.named_modules():
        for leaf, old in part.named_parameters(recurse=False):
            if id(old) not in made:  # `old` is kept there too, so that its id stays its own
                new = value(f"{path}.{leaf}" if path else leaf, old)
                made[id(old)] = old, torch.nn.Parameter(new, requires_grad=False)
            part.register_parameter(leaf, made[id(old)][1])


@contextlib.contextmanager
def fake_parameters(module: torch.nn.Module) -> Iterator[FakeTensorMode]:
    """Within, the module's parameters are fakes on the CPU, of the mode that is given; then they
    are what they were.

    So a module can be traced whether its parameters have memory or not, and whatever they hold is
    never read.
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
