"""Exports a component folder as `export.part_process` does, without a checkpoint around it."""

from __future__ import annotations

from pathlib import Path

import torch

from export.capture import capture
from export.components import Bounds, component_for
from export.records import COMPONENT_FILE, ComponentRecord, GraphRecord
from export.tensorrt import check
from export.weights import empty_model
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import Part
from tests.conftest import SHAPES

BOUNDS = Bounds(Checkpoint.open(SHAPES).info)


def export_all(
    part: Part, class_name: str, folder: Path, output: Path, bounds: Bounds = BOUNDS
) -> None:
    component = component_for(part, class_name)
    model = empty_model(component, folder, torch.float32)
    records: list[GraphRecord] = []
    for graph in component.graphs(model, bounds):
        file = f"{graph.name}.onnx"
        nodes = capture(graph, output / file, folder)
        records.append(GraphRecord.of(graph, file, nodes))
    record = ComponentRecord(
        part=part.name, class_name=class_name, precision="fp32", graphs=tuple(records)
    )
    (output / COMPONENT_FILE).write_text(record.model_dump_json())


def findings(exported: Path, target: str = "sm89") -> dict[str, tuple[str, ...]]:
    """Graph -> what the compiler says of it, nothing where all is well; for every graph that
    `export_all` wrote.
    """
    record = ComponentRecord.model_validate_json((exported / COMPONENT_FILE).read_text())
    found: dict[str, tuple[str, ...]] = {}
    for graph in record.graphs:
        (result,) = check(exported / graph.file, graph, (target,), lambda target, percent: None)
        assert result.ok or result.findings
        found[graph.name] = result.findings
    return found
