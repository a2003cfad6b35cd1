"""Find the first layer of a graph that differs from torch.

The exporter writes into each node the modules that it was traced in. What the last node of a module
passes to the rest of the graph is the module's output, and a hook returns the same of the torch
module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from export.graph import Graph
from export.parity.limits import Difference, Limits, compare
from export.parity.session import OnnxGraph

_SCOPES = "pkg.torch.onnx.name_scopes"
_ROOT = "module."  # the exporter traces the module inside a wrapper


def first_difference(
    graph: Graph, path: Path, inputs: Mapping[str, torch.Tensor], limits: Limits
) -> str:
    """Return a clause that names the layer, with the names of the model's own modules."""
    expected = _torch_outputs(graph, inputs)
    tensors = {layer: tensor for layer, tensor in _onnx_outputs(path).items() if layer in expected}
    actual = OnnxGraph(path, tensors.values())(inputs)
    worst: tuple[str, Difference] | None = None
    for layer, reference in expected.items():
        value = actual.get(tensors.get(layer, ""))
        if value is None or value.shape != reference.shape:
            continue
        difference = compare(reference.numpy(), value.float().numpy())
        if difference.exceeds(limits):
            return f"the first layer that differs is {layer} ({difference.text(limits)})"
        if worst is None or difference.cosine < worst[1].cosine:
            worst = layer, difference
    if worst is None:
        return "its layers are unknown: the file does not record what was traced where"
    name, difference = worst
    return (
        f"no layer alone is past the limit, the furthest is {name} (cosine {difference.cosine:.6f})"
    )


def _torch_outputs(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the output of each layer, in the order in which layers end. A layer that is called
    twice is left out.
    """
    outputs: dict[str, torch.Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(layer: str, result: object) -> None:
        tensors = (
            [value for value in result if value is not None]
            if isinstance(result, tuple)
            else [result]
        )
        # Of several tensors it is not known which one the graph's last node gives.
        result = tensors[0] if len(tensors) == 1 else None
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            calls[layer] += 1
            outputs[layer] = result.detach().float().clone()

    def hook(layer: str):
        return lambda _module, _args, result: keep(layer, result)

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in graph.module.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            graph.module(*(inputs[port.name] for port in graph.inputs))
    finally:
        for handle in handles:
            handle.remove()
    return {layer: output for layer, output in outputs.items() if calls[layer] == 1}


def _onnx_outputs(path: Path) -> dict[str, str]:
    """Return, for each layer, the tensor that its last node passes to a node of another layer or
    out of the graph.
    """
    graph = onnx.load(path, load_external_data=False).graph
    scopes = [_scopes(node) for node in graph.node]
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    leaving = {value.name for value in graph.output}
    found: dict[str, str] = {}
    for node, layers in zip(graph.node, scopes, strict=True):
        for name in node.output:
            for layer in layers:
                if name in leaving or any(
                    layer not in scopes[reader] for reader in readers.get(name, ())
                ):
                    found[layer] = name
    return found


def _scopes(node: onnx.NodeProto) -> frozenset[str]:
    written = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    quoted = (part.strip(" []'\"") for part in written.split(","))
    return frozenset(part.removeprefix(_ROOT) for part in quoted if part.startswith(_ROOT))
