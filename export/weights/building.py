"""Build a model whose parameters take no memory, while its buffers are computed as usual."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from export.parameters import replace_parameters


def build(model_class: type[Any], folder: Path, dtype: torch.dtype) -> Any:
    """Return a model of a transformers or diffusers class from the folder's config, with
    floating-point parameters of ``dtype``.
    """
    with _UninitialisedOnMeta(), _default_dtype(dtype):
        if hasattr(model_class, "load_config"):
            model = model_class.from_config(model_class.load_config(folder, local_files_only=True))
        else:
            config = model_class.config_class.from_pretrained(folder, local_files_only=True)
            model = model_class._from_config(config, dtype=dtype)
    replace_parameters(model, lambda _, parameter: _on_meta(parameter, dtype))
    for name, buffer in model.named_buffers():
        assert not buffer.is_meta, f"{name} is computed from a parameter"
    return model.eval()


class _UninitialisedOnMeta(TorchFunctionMode):
    """Put memory without values on the meta device: only parameters start from such memory.

    ``torch.device("meta")`` would put the buffers there too, whose values no file has.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _on_meta(parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(
        parameter, device="meta", dtype=dtype if parameter.is_floating_point() else None
    )
