"""docs/families.md says of each family and each part what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.components import COMPONENTS
from pipeline.families import FAMILIES, Family

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|")
]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_row_of_a_family(family: Family) -> None:
    (row,) = [row for row in ROWS if row[0].split(" ")[0] == f"`{family.name}`"]
    defaults = family.defaults
    second = f" and {defaults.guidance_scale_2}" if defaults.guidance_scale_2 is not None else ""
    assert row[1:] == [
        family.recognised_by(),
        ", ".join(part.name for part in family.parts),
        f"{defaults.width}x{defaults.height}, {defaults.num_frames}, {defaults.fps}",
        f"{defaults.num_inference_steps}, {defaults.guidance_scale}{second}",
        family.image,
    ]


@pytest.mark.parametrize(
    ("part", "class_name"), [(part.name, name) for part in COMPONENTS for name in COMPONENTS[part]]
)
def test_every_part_of_every_class_has_a_row(part: str, class_name: str) -> None:
    rows = PAGE.partition("## What the parts are")[2].partition("##")[0]
    assert f"| `{part}` |" in rows
    assert class_name in rows
