"""Every part of every family has its export, and every graph is what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.components import COMPONENTS, Bounds, component_for
from export.graph import Graph
from pipeline.checkpoint.folder import Checkpoint
from pipeline.errors import CheckpointError
from pipeline.families import FAMILIES
from pipeline.families.parts import TEXT_ENCODER


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
        graphs.extend(component.graphs(model, Bounds(checkpoint.info)))
    return graphs


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
