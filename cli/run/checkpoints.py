"""The checkpoint of a run, and the complete request that its model makes of the parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.failure import InputErrors
from pipeline.errors import InputError
from pipeline.families import ModelInfo, SamplingParams, VideoRequest
from pipeline.system.own_modules import FOLDER

BUNDLED = FOLDER / "models" / "shapes"


def bundled_checkpoint() -> Path:
    """Return the folder of the checkpoint that comes with the package."""
    return BUNDLED


def resolve(info: ModelInfo, params: SamplingParams, **files: Any) -> VideoRequest:
    """Return the complete request; ``files`` are the other arguments of `ModelInfo.resolve`.

    Raises ``InputErrors`` with every parameter that is not valid for the model, not only the first.
    """
    errors: list[InputError] = []
    while True:
        try:
            request = info.resolve(params, **files)
        except InputError as error:
            errors.append(error)
            if getattr(params, error.field, None) is None:
                raise InputErrors(errors) from None
            # Continue with the model's default, to find what else is not valid.
            params = params.model_copy(update={error.field: None})
        else:
            if errors:
                raise InputErrors(errors)
            return request
