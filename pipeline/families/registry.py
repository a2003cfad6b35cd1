"""The supported model families. To add one, write a module in this folder and list it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import CheckpointError
from pipeline.families.family import FAMILY_MARKS, Family
from pipeline.families.fastwan import FASTWAN21_T2V, FASTWAN22_TI2V
from pipeline.families.hunyuan import HUNYUAN_VIDEO
from pipeline.families.wan21 import WAN21_I2V, WAN21_T2V
from pipeline.families.wan22 import WAN22_I2V, WAN22_T2V, WAN22_TI2V

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        WAN21_T2V,
        WAN21_I2V,
        WAN22_T2V,
        WAN22_TI2V,
        WAN22_I2V,
        FASTWAN21_T2V,
        FASTWAN22_TI2V,
        HUNYUAN_VIDEO,
    )
}


def family_named(name: str) -> Family:
    """Return the family called ``name``. Raises ``CheckpointError``, which lists the known ones."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise CheckpointError(
            f"unknown model family {name!r}; known are {', '.join(FAMILIES)}"
        ) from None


def family_of(model_index: Mapping[str, Any]) -> Family:
    """Return the family of a checkpoint from the contents of its ``model_index.json``.

    The pipeline class and the marks decide. Raises ``CheckpointError``, which lists the known
    families and what identifies each.
    """
    pipeline_class = model_index.get("_class_name")
    marks = frozenset(mark for mark in FAMILY_MARKS if _is_set(model_index.get(mark)))
    for family in FAMILIES.values():
        if pipeline_class in family.pipeline_classes and marks == family.marks:
            return family
    known = "; ".join(f"{family.name} ({family.recognised_by()})" for family in FAMILIES.values())
    found = " and ".join(mark for mark in FAMILY_MARKS if mark in marks)
    marked = f" with {found}" if found else ""
    raise CheckpointError(
        f"model_index.json: pipeline class {pipeline_class!r}{marked} is of no known family; known "
        f"are {known}"
    )


def _is_set(value: Any) -> bool:
    """Return whether a key is set. Diffusers writes an absent optional component as two nulls."""
    return value not in (None, False, [None, None])
