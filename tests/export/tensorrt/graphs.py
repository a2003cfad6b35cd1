"""Small ONNX files, each with one thing that TensorRT does or does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from export.records import GraphRecord


def write(folder: Path, *nodes: Any, dtype: int = TensorProto.FLOAT, constants: tuple[Any, ...] = ()) -> Path:
    """A graph of ``nodes`` from ``x`` to ``y``, both [1, 3, h, w] or what y becomes."""
    given = helper.make_tensor_value_info("x", dtype, [1, 3, "h", "w"])
    made = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph(nodes, "graph", [given], [made], initializer=constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("custom", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def record(least: int = 2, usual: int = 4, most: int = 8) -> GraphRecord:
    """The record of such a graph, h and w being in these bounds."""
    shapes = {name: {"x": (1, 3, size, size)} for name, size in (("least", least), ("usual", usual), ("most", most))}
    return GraphRecord(name="model", file="model.onnx", nodes=1, **shapes)


def good(folder: Path) -> Path:
    return write(folder, helper.make_node("Sigmoid", ["x"], ["y"], name="squash"))


def unsupported(folder: Path) -> Path:
    return write(folder, helper.make_node("Unique", ["x"], ["y"], name="distinct"))


def unknown(folder: Path) -> Path:
    return write(folder, helper.make_node("Frobnicate", ["x"], ["y"], name="frob", domain="custom"))


def mixed(folder: Path) -> Path:
    half = helper.make_tensor("half", TensorProto.FLOAT16, [1], [1.0])
    return write(folder, helper.make_node("Add", ["x", "half"], ["y"], name="add_half"), constants=(half,))


def bf16_resize(folder: Path) -> Path:
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", mode="nearest")
    return write(folder, node, dtype=TensorProto.BFLOAT16, constants=(scales,))


def bf16(folder: Path) -> Path:
    return write(folder, helper.make_node("Sigmoid", ["x"], ["y"], name="squash"), dtype=TensorProto.BFLOAT16)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
