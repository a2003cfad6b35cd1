"""Every graph of every family compiles for a GPU that is not here; Wan's decoder and UMT5 in
tests of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.families.parts import PARTS
from tests.export.components.conftest import ExportedPart
from tests.export.exporting import findings

# The parts that other tests export too: each is made once.
EXPORTED = [
    ("wan2.1-i2v", "image_encoder", ["model"]),
    ("wan2.1-i2v", "vae_encoder", ["first", "next"]),
    ("wan2.2-ti2v", "vae_encoder", ["first", "next"]),
    ("hunyuan-video", "text_encoder", ["model"]),
    ("hunyuan-video", "text_encoder_2", ["model"]),
    ("hunyuan-video", "vae_decoder", ["tile"]),
]
ELSEWHERE = {("text_encoder", "UMT5EncoderModel"), ("vae_decoder", "AutoencoderKLWan")}


@pytest.mark.parametrize(("family", "part", "graphs"), EXPORTED)
def test_every_graph_compiles(
    export_part: Callable[[str, str], ExportedPart], family: str, part: str, graphs: list[str]
) -> None:
    found = findings(export_part(family, part).folder)
    assert sorted(found) == graphs
    assert found == dict.fromkeys(found, ())


def test_every_part_is_compiled() -> None:
    parts = {part for _, part, _ in EXPORTED} | {part for part, _ in ELSEWHERE}
    assert parts == set(PARTS), "a new part is exported and compiled here, or in a separate test"
