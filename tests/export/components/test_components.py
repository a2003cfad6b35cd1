"""Every part of every family has its export, and every graph is what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.components import COMPONENTS, component_for
from export.components import Bounds as ExportBounds
from export.graph import Graph, Port, Range, Size
from export.records import GraphRecord
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.families import FAMILIES
from pipeline.families.parts import TEXT_ENCODER
from tests.conftest import SHAPES


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_part_of_every_class_can_be_exported(family) -> None:
    for part in family.parts:
        for class_name in family.components[part.component]:
            component_for(part, class_name)


def test_every_component_belongs_to_a_family() -> None:
    assert {part for family in FAMILIES.values() for part in family.parts} == set(COMPONENTS)


def test_an_unsupported_class_lists_the_supported_ones() -> None:
    with pytest.raises(
        CheckpointError,
        match="a T5EncoderModel cannot be exported as text_encoder; these can: UMT5Enc",
    ):
        component_for(TEXT_ENCODER, "T5EncoderModel")


def graphs_of(checkpoint: Checkpoint) -> list[Graph]:
    graphs: list[Graph] = []
    for part in checkpoint.family.parts:
        folder = part.component
        component = component_for(part, checkpoint.classes[folder])
        model = component.model_class().from_pretrained(checkpoint.path / folder).eval()
        graphs.extend(component.graphs(model, ExportBounds(checkpoint.info)))
    return graphs


@pytest.mark.parametrize("max_pixels", [480 * 832, 1280 * 720, 1280 * 1280])
@pytest.mark.parametrize("size", [(480, 832), (832, 480), (256, 256)])
def test_two_profiles_take_every_frame_of_max_pixels(
    max_pixels: int, size: tuple[int, int]
) -> None:
    info = Checkpoint.open(SHAPES).info
    cell = info.spatial_compression
    ranges = ExportBounds(info, max_pixels=max_pixels).sides(*size)
    h, w = ranges["height"].max, ranges["width"].max
    assert (ranges["height"].opt * cell, ranges["width"].opt * cell) == size
    sides = range(cell, info.max_side + 1, cell)
    for height, width in ((a, b) for a in sides for b in sides if a * b <= max_pixels):
        cells = height // cell, width // cell
        assert any(a <= x and b <= y for a, b in (cells, cells[::-1]) for x, y in ((h, w),))
    assert min(h, w) ** 2 * cell**2 <= max(max_pixels, size[0] * size[1])


def test_a_turned_profile_exchanges_height_and_width() -> None:
    ranges = {"height": Range(1, 2, 3), "width": Range(1, 4, 8)}
    port = Port("x", torch.float32, (1, Size("height"), Size("width", 2)))
    record = GraphRecord.of(
        Graph("g", torch.nn.Identity(), (port,), ("y",), ranges, turns=True), "g.onnx", 1
    )
    assert [profile.max for profile in record.profiles] == [{"x": (1, 3, 16)}, {"x": (1, 8, 6)}]
    assert [profile.opt for profile in record.profiles] == [{"x": (1, 2, 8)}, {"x": (1, 4, 4)}]
    (only,) = GraphRecord.of(
        Graph("g", torch.nn.Identity(), (port,), ("y",), ranges), "g.onnx", 1
    ).profiles
    assert only.max == {"x": (1, 3, 16)}


def test_every_graph_runs_at_min_and_returns_its_outputs(family_checkpoint: Path) -> None:
    for graph in graphs_of(Checkpoint.open(family_checkpoint)):
        assert all(bounds.min <= bounds.opt <= bounds.max for bounds in graph.ranges.values())
        shapes = graph.shapes("min")
        feeds = [torch.ones(shapes[port.name], dtype=port.dtype) for port in graph.inputs]
        with torch.no_grad():
            made = graph.module(*feeds)
        assert not graph.module.training
        made = made if isinstance(made, tuple) else (made,)
        outputs = dict(zip(graph.outputs, made, strict=True))
        for output, taken in graph.carried.items():
            if taken in shapes:
                assert tuple(outputs[output].shape) == shapes[taken], (
                    f"{output} goes in again as {taken}"
                )
