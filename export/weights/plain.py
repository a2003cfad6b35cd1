"""A component's model on the meta device: its parameters and buffers have names, shapes and types,
but no memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.parts import PARTS


def plain_model(component: str, class_name: str, folder: Path) -> Any:
    """Return a model of the class ``class_name`` from the config in ``folder``.

    Raises ``CheckpointError`` when the config cannot build the class.
    """
    import torch

    kind = _class_of(component, class_name)
    try:
        with torch.device("meta"):
            if hasattr(kind, "load_config"):
                return kind.from_config(kind.load_config(folder, local_files_only=True))
            return kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{folder / 'config.json'}: no {class_name} can be built by it: {reason[:300]}"
        ) from error


def _class_of(component: str, class_name: str) -> type[Any]:
    from diffusers.models.transformers.transformer_hunyuan_video import (
        HunyuanVideoTransformer3DModel,
    )
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    from export.components import component_for

    transformers = {
        kind.__name__: kind for kind in (WanTransformer3DModel, HunyuanVideoTransformer3DModel)
    }
    if class_name in transformers:
        return transformers[class_name]
    # Both parts of a VAE are of one class, and every class has a decoder.
    *_, part = (part for part in PARTS.values() if part.component == component)
    return component_for(part, class_name).model_class()
