"""docs/families.md says of each family and each part what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.components import COMPONENTS
from pipeline.families import FAMILIES, Family

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "families.md").read_text(encoding="utf-8")


def rows_of(page: str, family: Family) -> list[list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in page.splitlines()
        if line.startswith("|")
    ]
    return [row for row in rows if row[0].split(" ")[0] == f"`{family.name}`"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_row_of_a_family(family: Family) -> None:
    (row,) = rows_of(PAGE, family)
    defaults = family.defaults
    second = f" and {defaults.guidance_scale_2}" if defaults.guidance_scale_2 is not None else ""
    assert row[1:] == [
        family.recognised_by(),
        ", ".join(part.name for part in family.parts),
        f"{defaults.width}x{defaults.height}, {defaults.num_frames}, {defaults.fps}",
        f"{defaults.num_inference_steps}, {defaults.guidance_scale}{second}",
        family.image,
    ]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_a_family_can_do_with_images_and_videos(family: Family) -> None:
    (row,) = rows_of((DOCS / "image-to-video.md").read_text(encoding="utf-8"), family)
    last = row.pop(2)
    # FLF2V, which requires a last frame, is a checkpoint of Wan 2.1 I2V.
    assert last.removeprefix("FLF2V: required; I2V: ") == family.last_frame
    does = {True: "yes", False: "no"}
    edits = "with the VAE's encoder" if family.edits_with_encoder else does[family.edits]
    assert row[1:] == [family.image, does[family.extends], edits]


@pytest.mark.parametrize(
    ("part", "class_name"), [(part.name, name) for part in COMPONENTS for name in COMPONENTS[part]]
)
def test_every_part_of_every_class_has_a_row(part: str, class_name: str) -> None:
    rows = PAGE.partition("## What the parts are")[2].partition("##")[0]
    assert f"| `{part}` |" in rows
    assert class_name in rows
