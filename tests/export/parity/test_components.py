"""Classes of components in half precisions: an export would not get past its limits.

fp32 is what the tests of the components themselves export and compare.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from export import parity
from export.options import ExportOptions
from export.part_process import export_component
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families.parts import PARTS
from pipeline.settings import GraphPrecision
from tests.needs import exhaustive

pytestmark = pytest.mark.export
# One precision a class, as an export takes the better part of a minute: `bench/parity.py` makes all
# of them.
CASES: list[Any] = [
    ("wan2.1-i2v", "text_encoder", "fp16"),
    ("wan2.1-i2v", "vae_decoder", "bf16"),
    exhaustive("hunyuan-video", "text_encoder", "bf16"),
    exhaustive("hunyuan-video", "text_encoder_2", "fp16"),
    exhaustive("hunyuan-video", "vae_decoder", "bf16"),
]


@pytest.mark.parametrize(("family", "part", "precision"), CASES)
def test_a_half_precision_stays_within_its_limits(
    build_family: Callable[[str], Path],
    family: str,
    part: str,
    precision: GraphPrecision,
    tmp_path: Path,
) -> None:
    checkpoint = Checkpoint.open(build_family(family))
    options = ExportOptions(vae_precision=precision, text_encoder_precisions=(precision, precision))

    record = export_component(checkpoint, PARTS[part], tmp_path, options)

    assert record.kept_fp32
    for graph in record.graphs:
        assert graph.parity is not None
        assert graph.parity.cases >= (6 if graph.name != "next" else 6 * (parity.CHUNKS - 1))
        assert graph.parity.limit_cosine == (0.999 if part.startswith("vae") else 0.98)
        assert graph.parity.cosine < 1 - 1e-9, "roundings are seen"
        assert no_resize_in(
            onnx.load(tmp_path / graph.file), TensorProto.BFLOAT16, TensorProto.FLOAT16
        )


def no_resize_in(model: onnx.ModelProto, *kinds: int) -> bool:
    """TensorRT has none in bf16."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    return not any(
        types.get(node.input[0]) in kinds for node in model.graph.node if node.op_type == "Resize"
    )
