"""One spoiled weight of a real component is found by the name of its layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from export import parity
from export.components import Bounds, component_for
from export.options import ExportOptions
from export.parity.torch_reference import reference_graphs
from export.part_process import export_component
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import PARTS
from tests.export.parity import small

FAMILY = "wan2.1-t2v"


@pytest.mark.parametrize(
    ("part", "graph", "layer"),
    [
        ("text_encoder", "model", "encoder.block.0.layer.0.SelfAttention.v"),
        ("vae_decoder", "next", "decoder.mid_block.resnets.1.conv2"),
    ],
)
def test_an_error_names_the_layer_of_a_spoiled_weight(
    build_family: Callable[[str], Path], tmp_path: Path, part: str, graph: str, layer: str
) -> None:
    checkpoint = Checkpoint.open(build_family(FAMILY))
    export_component(checkpoint, PARTS[part], tmp_path, ExportOptions())
    folder = PARTS[part].component
    component = component_for(PARTS[part], checkpoint.classes[folder])
    reference = reference_graphs(component, checkpoint.path / folder, Bounds(checkpoint.info))
    small.spoil_layer(tmp_path / f"{graph}.onnx", layer, 5.0)

    with pytest.raises(
        parity.ParityError, match=rf"^{graph}\.onnx .* the first layer that differs is \S*{layer} "
    ):
        parity.check(reference, tmp_path, "fp32", PARTS[part])
