"""Convert weights from the data type they are stored in to the one they compute in, one module at a
time as it runs.

A large text encoder in bf16 is twice as large in fp32; one of its modules is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from export.weights.stored import StoredTensor


def is_looked_up(module: torch.nn.Module) -> bool:
    """Return whether the module uses a few rows of its weights at a time: then the rows are
    converted, not the weights.
    """
    return isinstance(module, torch.nn.Embedding)


def convert_as_used(
    model: torch.nn.Module, stored: Callable[[str], StoredTensor], dtype: torch.dtype
) -> None:
    """Give parameters on the meta device the values of ``stored(name)``, in their own data type,
    during each forward.

    Between forwards they are on the meta device, so that computing with one is an error instead of
    a wrong result.
    """
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        own = dict(module.named_parameters(recurse=False))
        if is_looked_up(module):
            if any(parameter.dtype != dtype for parameter in own.values()):
                module.register_forward_hook(lambda _module, _args, rows: rows.to(dtype))
        elif empty := {leaf: parameter for leaf, parameter in own.items() if parameter.is_meta}:
            _load_in_forward(module, empty, {leaf: stored(f"{prefix}{leaf}") for leaf in empty})


def _load_in_forward(
    module: torch.nn.Module, empty: dict[str, torch.nn.Parameter], stored: dict[str, StoredTensor]
) -> None:
    loaded: list[str] = []

    def load(_module: torch.nn.Module, _args: Any) -> None:
        # Tracing replaces parameters by fakes, which are left alone.
        loaded[:] = [
            leaf for leaf, parameter in empty.items() if module.get_parameter(leaf) is parameter
        ]
        for leaf in loaded:
            values = stored[leaf].mapped().to(empty[leaf].dtype)
            module.register_parameter(leaf, torch.nn.Parameter(values, requires_grad=False))

    def drop(_module: torch.nn.Module, _args: Any, _result: Any) -> None:
        for leaf in loaded:
            module.register_parameter(leaf, empty[leaf])

    module.register_forward_pre_hook(load)
    module.register_forward_hook(drop, always_call=True)
