"""Make a half-precision graph run on ONNX Runtime's CPU with the same rounding as on a GPU.

ONNX Runtime has no CPU kernels for most operators in bf16, and in fp16 it quietly keeps fp32
between nodes, which would hide an overflow. So every operator computes in fp32, and its result is
rounded to the half precision right after. Tensor cores do the same: they multiply half values, sum
in fp32 and store half.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import onnx
from onnx import TensorProto

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

# They compute nothing and have kernels for every type.
_UNTOUCHED = ("Cast", "Constant", "ConstantOfShape", "Shape")


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether anything in the graph has a half precision."""
    return any(kind in HALVES for kind in _types(model).values())


def widen(model: onnx.ModelProto) -> None:
    """Rewrite ``model`` in place; its half-precision inputs and outputs become fp32 with values of
    the half precision.
    """
    graph = model.graph
    halves = {name: kind for name, kind in _types(model).items() if kind in HALVES}
    # Inputs were already rounded when they left the previous graph.
    for value in graph.input:
        if halves.pop(value.name, None):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    outputs = {value.name for value in graph.output if value.name in halves}
    for value in graph.output:
        if value.name in outputs:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes: list[onnx.NodeProto] = []
    widened: set[str] = set()
    for node in graph.node:
        if node.op_type not in _UNTOUCHED:
            nodes.extend(_widened_inputs(node, halves, widened))
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in halves:
                nodes.extend(_rounded_output(node, index, halves[name], name in outputs))
                if name in outputs:
                    del halves[name]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _widened_inputs(
    node: onnx.NodeProto, halves: Mapping[str, int], widened: set[str]
) -> Iterator[onnx.NodeProto]:
    for index, name in enumerate(node.input):
        if name in halves:
            node.input[index] = f"{name}_fp32"
            if name not in widened:
                widened.add(name)
                yield _cast(name, f"{name}_fp32", TensorProto.FLOAT)


def _rounded_output(
    node: onnx.NodeProto, index: int, kind: int, goes_out: bool
) -> Iterator[onnx.NodeProto]:
    name = node.output[index]
    rounded = f"{name}_rounded" if goes_out else name
    if node.op_type in _UNTOUCHED:
        node.output[index] = rounded
    else:
        node.output[index] = f"{name}_exact"
        yield _cast(f"{name}_exact", rounded, kind)
    if goes_out:
        yield _cast(rounded, name, TensorProto.FLOAT)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"parity_{target}", to=to)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor; the exporter declares every tensor."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = itertools.chain(graph.input, graph.output, graph.value_info)
    types.update((value.name, value.type.tensor_type.elem_type) for value in values)
    return types
