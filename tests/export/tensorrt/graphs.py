"""Small ONNX files, each with one thing that TensorRT does or does not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from export.records import GraphRecord, Profile


def write(
    folder: Path, *nodes: Any, dtype: int = TensorProto.FLOAT, constants: tuple[Any, ...] = ()
) -> Path:
    """A graph of ``nodes`` from ``x`` to ``y``, both [1, 3, h, w] or what y becomes."""
    given = helper.make_tensor_value_info("x", dtype, [1, 3, "h", "w"])
    made = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph(nodes, "graph", [given], [made], initializer=constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("custom", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def record(low: int = 2, opt: int = 4, high: int = 8) -> GraphRecord:
    """The record of such a graph, h and w being in these bounds."""
    shapes = {
        name: {"x": (1, 3, size, size)}
        for name, size in (("min", low), ("opt", opt), ("max", high))
    }
    return GraphRecord(name="model", file="model.onnx", nodes=1, **shapes)


def turning() -> GraphRecord:
    """A record with two profiles: h of 2 and w to 8, and the reverse."""
    shapes = {name: {"x": (1, 3, 2, size)} for name, size in (("min", 2), ("opt", 4), ("max", 8))}
    turned = {name: {"x": (1, 3, size, 2)} for name, size in (("min", 2), ("opt", 4), ("max", 8))}
    return GraphRecord(name="model", file="model.onnx", nodes=1, **shapes, turned=Profile(**turned))


def good(folder: Path) -> Path:
    return write(folder, helper.make_node("Sigmoid", ["x"], ["y"], name="squash"))


def unsupported(folder: Path) -> Path:
    return write(folder, helper.make_node("Unique", ["x"], ["y"], name="distinct"))


def unknown(folder: Path) -> Path:
    return write(folder, helper.make_node("Frobnicate", ["x"], ["y"], name="frob", domain="custom"))


def mixed(folder: Path) -> Path:
    half = helper.make_tensor("half", TensorProto.FLOAT16, [1], [1.0])
    return write(
        folder, helper.make_node("Add", ["x", "half"], ["y"], name="add_half"), constants=(half,)
    )


def bf16_resize(folder: Path) -> Path:
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", mode="nearest")
    return write(folder, node, dtype=TensorProto.BFLOAT16, constants=(scales,))


def bf16(folder: Path) -> Path:
    return write(
        folder, helper.make_node("Sigmoid", ["x"], ["y"], name="squash"), dtype=TensorProto.BFLOAT16
    )


def weights_outside(folder: Path) -> Path:
    """``y = x + weight``, the weight being where a safetensors file has it, behind a header of
    no round length.
    """
    tensors = {
        "odd": np.zeros(3, np.uint8),
        "weight": np.arange(3, dtype=np.float32).reshape(3, 1, 1),
    }
    save_file(tensors, folder / "weights.safetensors")
    with (folder / "weights.safetensors").open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))["weight"]["data_offsets"]
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, 1, 1])
    weight.data_location = TensorProto.EXTERNAL
    place = {
        "location": "weights.safetensors",
        "offset": str(8 + length + begin),
        "length": str(end - begin),
    }
    for key, value in place.items():
        weight.external_data.add(key=key, value=value)
    return write(
        folder, helper.make_node("Add", ["x", "weight"], ["y"], name="shift"), constants=(weight,)
    )


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
