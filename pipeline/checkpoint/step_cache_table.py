"""Find the table of a checkpoint's step cache: in its folder, or among the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.checkpoint.regular_files import read_json
from pipeline.errors import CheckpointError
from pipeline.families import Family
from pipeline.families.step_cache import table as tables
from pipeline.families.step_cache.table import FILE_NAME, StepCacheTable
from pipeline.validation import first_problem

PUBLISHED = {
    ("wan2.1-t2v", 30, 12): "wan2.1-t2v-1.3b",
    ("wan2.1-t2v", 40, 40): "wan2.1-t2v-14b",
    ("wan2.1-i2v", 40, 40): "wan2.1-i2v-14b-480p",
    ("wan2.2-t2v", 40, 40): "wan2.2-t2v-a14b",
    ("wan2.2-i2v", 40, 40): "wan2.2-i2v-a14b",
    ("wan2.2-ti2v", 30, 24): "wan2.2-ti2v-5b",
    ("hunyuan-video", 20, 24): "hunyuan-video",
}
"""Family, layers and heads of a published model -> the name of its table."""


def find_table(
    path: Path, family: Family, configs: Mapping[str, Mapping[str, Any]]
) -> StepCacheTable | None:
    """Return the table of the checkpoint in the folder ``path``; None if there is none.

    Raises ``CheckpointError`` for an invalid file, or one of another number of experts.
    """
    own = path / FILE_NAME
    if own.exists():
        return load_table(own, experts=len(family.transformers))
    config = configs["transformer"]
    layers, heads = config.get("num_layers"), config.get("num_attention_heads")
    name = PUBLISHED.get((family.name, layers, heads))  # pyright: ignore[reportArgumentType]
    if name == "wan2.1-i2v-14b-480p" and "720p" in path.name.lower():
        name = "wan2.1-i2v-14b-720p"  # of the same geometry
    if name is None:
        return None
    return load_table(Path(tables.__file__).parent / f"{name}.json")


def load_table(file: Path, experts: int | None = None) -> StepCacheTable:
    """Read a table of ``experts`` experts, or of any number of them.

    Raises ``CheckpointError``, which names the file.
    """
    try:
        table = StepCacheTable.model_validate(read_json(file), strict=False)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_problem(error)}") from None
    if experts is not None and len(table.ratios) != experts:
        raise CheckpointError(
            f"{file}: ratios: {len(table.ratios)} experts are not valid; the model has {experts}"
        )
    return table
