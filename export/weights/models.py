"""Build a component's model from its config alone, without memory or with its weights mapped from
their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.weights.stored import StoredTensor, stored_tensors
from pipeline.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from export.components import Component

_NAMES = "_stored_names"


def empty_model(component: Component, folder: Path, dtype: torch.dtype) -> Any:
    """Return the model of the component folder in eval mode, with parameters of ``dtype`` on the
    meta device: they take no memory.

    Buffers are real, whether computed (rotary frequencies) or stored. Each module remembers the
    names of its parameters in the folder's files, so that ``capture`` can fill in the values.
    Raises ``CheckpointError`` that names the tensor and the file when one is missing or of another
    shape.
    """
    return _model(component, folder, dtype)[0]


def mapped_model(component: Component, folder: Path, dtype: torch.dtype) -> Any:
    """Return the same model with real weights, and still hardly any memory: it can run, and
    computes in ``dtype``.

    Parameters stored as ``dtype`` are mapped from their file. The others are converted each time
    their module runs, and have no values in between.
    """
    from export.parameters import replace_parameters
    from export.weights.as_used import convert_as_used, is_looked_up

    model, stored = _model(component, folder, dtype)
    names = stored_names(model)
    looked_up = {
        name for name in names if is_looked_up(model.get_submodule(name.rpartition(".")[0]))
    }

    def value(name: str, empty: torch.Tensor) -> torch.Tensor:
        tensor = stored[names[name]]
        return tensor.mapped() if name in looked_up or tensor.torch_dtype == empty.dtype else empty

    replace_parameters(model, value)
    convert_as_used(model, lambda name: stored[names[name]], dtype)
    return model


def stored_names(module: torch.nn.Module) -> dict[str, str]:
    """Return the stored name of each parameter of ``module``, which may be any arrangement of an
    empty model's parts.
    """
    return {
        f"{path}.{leaf}" if path else leaf: name
        for path, part in module.named_modules(remove_duplicate=False)
        for leaf, name in getattr(part, _NAMES, {}).items()
    }


def _model(
    component: Component, folder: Path, dtype: torch.dtype
) -> tuple[Any, dict[str, StoredTensor]]:
    from export.weights.building import build
    from export.weights.naming import names_in_files

    model = build(component.model_class(), folder, dtype)
    stored = stored_tensors(folder)
    names = names_in_files(model, stored)
    _check(model, names, stored, folder)
    _load_buffers(model, names, stored)
    for path, part in model.named_modules():
        own = {
            leaf: f"{path}.{leaf}" if path else leaf
            for leaf, _ in part.named_parameters(recurse=False)
        }
        setattr(part, _NAMES, {leaf: names[name] for leaf, name in own.items()})
    return model, stored


def _check(
    model: Any, names: Mapping[str, str], stored: Mapping[str, StoredTensor], folder: Path
) -> None:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name not in names:
            raise CheckpointError(
                f"{folder}: no file has the tensor {name}, which a {type(model).__name__} needs"
            )
        found = stored[names[name]]
        if found.shape != tuple(parameter.shape):
            wanted = list(parameter.shape)
            raise CheckpointError(
                f"{found.file}: {found.name} has the shape {list(found.shape)}, not {wanted}"
            )


def _load_buffers(model: Any, names: Mapping[str, str], stored: Mapping[str, StoredTensor]) -> None:
    persistent = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name in persistent and name in names:
            buffer.copy_(stored[names[name]].mapped())
