"""The families this version knows. Adding one is a module beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.spec.family import Family
from pipeline.spec.wan21 import WAN21_T2V

FAMILIES: Mapping[str, Family] = {family.name: family for family in (WAN21_T2V,)}


def family_named(name: str) -> Family:
    """The family of that name. Raises ``CheckpointError`` that lists the known ones."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise CheckpointError(f"unknown model family {name!r}; known are {', '.join(FAMILIES)}") from None


def family_of(model_index: Mapping[str, Any]) -> Family:
    """The family that a checkpoint's ``model_index.json`` describes, decided by its pipeline class and components.

    Raises ``CheckpointError`` that says what decided against it.
    """
    pipeline_class = model_index.get("_class_name")
    for family in FAMILIES.values():
        if family.pipeline_class == pipeline_class:
            _require_plain(model_index, family)
            return family
    known = ", ".join(f"{f.name} ({f.pipeline_class})" for f in FAMILIES.values())
    raise CheckpointError(
        f"model_index.json: pipeline class {pipeline_class!r} is of no known family; known are {known}"
    )


def _require_plain(model_index: Mapping[str, Any], family: Family) -> None:
    """Refuse the relatives that share the pipeline class and that ``family`` does not describe."""
    if model_index.get("transformer_2") not in (None, [None, None]) or model_index.get("boundary_ratio") is not None:
        raise CheckpointError(f"model_index.json: two experts (transformer_2) make it Wan 2.2 A14B, not {family.name}")
    if model_index.get("expand_timesteps"):
        raise CheckpointError(f"model_index.json: expand_timesteps makes it Wan 2.2 TI2V 5B, not {family.name}")
