"""A half-precision graph that every operator of which computes in fp32 and rounds what it gives."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from export.parity.session import OnnxGraph

KINDS = {
    "bf16": (TensorProto.BFLOAT16, torch.bfloat16),
    "fp16": (TensorProto.FLOAT16, torch.float16),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> tuple[int, torch.dtype]:
    return KINDS[request.param]


def write(folder: Path, kind: int, *nodes: onnx.NodeProto, outputs: str = "y") -> Path:
    """A graph from `x` to ``outputs``, all of it of that type, tensors inside named `a` and `b`."""
    values = {
        name: helper.make_tensor_value_info(name, kind, ["n"]) for name in ("x", "a", "b", "y")
    }
    inside = [values[name] for name in "ab" if name not in outputs]
    graph = helper.make_graph(
        nodes, "g", [values["x"]], [values[name] for name in outputs], value_info=inside
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def test_values_are_rounded_after_each_operator(
    tmp_path: Path, kind: tuple[int, torch.dtype]
) -> None:
    number, dtype = kind
    nodes = helper.make_node("Sqrt", ["x"], ["a"]), helper.make_node("Mul", ["a", "a"], ["y"])
    x = torch.linspace(0.1, 9, 77).to(dtype)

    (y,) = OnnxGraph(write(tmp_path, number, *nodes))({"x": x.float()}).values()

    root = x.float().sqrt().to(dtype).float()
    assert y.dtype == torch.float32
    assert torch.equal(y, (root * root).to(dtype).float())
    assert not torch.equal(y, x.float()), "fp32 between the two would give this, or almost"


def test_an_overflow_between_operators_is_not_hidden(tmp_path: Path) -> None:
    nodes = (
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("Sqrt", ["a"], ["b"]),
        helper.make_node("Identity", ["b"], ["y"]),
    )
    (y,) = OnnxGraph(write(tmp_path, TensorProto.FLOAT16, *nodes))(
        {"x": torch.tensor([3.0, 300.0])}
    ).values()

    assert y.tolist() == [3.0, float("inf")]


def test_an_output_may_be_used_inside_and_an_input_go_straight_out(
    tmp_path: Path, kind: tuple[int, torch.dtype]
) -> None:
    number, _ = kind
    nodes = helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Add", ["a", "x"], ["y"])

    found = OnnxGraph(write(tmp_path, number, *nodes, outputs="ya"))(
        {"x": torch.tensor([1.5, -2.0])}
    )

    assert {name: value.tolist() for name, value in found.items()} == {
        "y": [0.0, 0.0],
        "a": [-1.5, 2.0],
    }


def test_inner_tensors_can_be_exposed(tmp_path: Path, kind: tuple[int, torch.dtype]) -> None:
    number, _ = kind
    nodes = helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["a"], ["y"])

    found = OnnxGraph(write(tmp_path, number, *nodes), exposed=["a", "unknown"])(
        {"x": torch.tensor([1.0, 4.0])}
    )

    assert {name: value.tolist() for name, value in found.items()} == {
        "y": [1.0, 4.0],
        "a": [-1.0, -4.0],
    }
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
