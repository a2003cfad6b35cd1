"""From a graph to its ONNX file: one set of exporter options, quiet logs and atomic files.

The graph is traced, and simplified, without the values of its parameters: they come in at the very
end, one by one.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import optimizer

from export.graph import Graph
from export.weights.initialisers import Source, fill
from export.weights.models import stored_names
from export.weights.parameters import fake_parameters
from export.weights.stored import stored_tensors

# The exporter's own op library is written for opset 18: asking for another one costs a conversion
# of the whole graph, and every runtime we serve with (ONNX Runtime, TensorRT 10 and later) reads
# it.
OPSET = 18

_NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def capture(graph: Graph, path: Path, weights: Path | None = None) -> int:
    """Traces the graph's module and writes it to `path`; readers see the old file or the whole new
    one.

    Returns the number of its nodes.

    The values of its parameters are those of the module, or, where its parameters have no memory
    (``export.weights.empty_model``), those of the component folder ``weights``. More than a few MiB
    of them are not in `path` but in files beside it: ``<path>.data`` and safetensors files that are
    the checkpoint's own (see ``export.weights.initialisers``).
    """
    module = FlatInputs(graph.module).eval()
    model = _traced(module, graph)
    sources = _sources(module, weights)
    parameters = {
        value: sources[name] for name, value in model.graph.initializers.items() if name in sources
    }
    for value in parameters:
        value.const_value = None  # a fake: now nothing that folds constants can try to read it
    with quiet_export():
        optimizer.optimize_ir(model)
    used = set(model.graph.initializers.values())
    with replacing(path) as staged:
        fill({value: source for value, source in parameters.items() if value in used}, staged)
        ir.save(model, staged)
    return sum(1 for _ in model.graph)


def _traced(module: torch.nn.Module, graph: Graph) -> ir.Model:
    with quiet_export(), torch.no_grad(), fake_parameters(module):
        program = torch.onnx.export(
            module,
            graph.example(),
            input_names=[port.name for port in graph.inputs],
            output_names=list(graph.outputs),
            dynamic_shapes=(graph.dynamic_shapes(),),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verify=False,
            verbose=False,
        )
    assert program is not None  # None is what the retired TorchScript exporter returns
    return program.model


def _sources(module: torch.nn.Module, weights: Path | None) -> dict[str, Source]:
    """Parameter name -> where its values are."""
    if weights is None:
        return dict(module.named_parameters(remove_duplicate=False))
    stored = stored_tensors(weights)
    return {name: stored[stored_as] for name, stored_as in stored_names(module).items()}


class FlatInputs(torch.nn.Module):
    """The same module with all its inputs in one list: the tracer nests the shapes of variable
    arguments.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Drops the exporter's deprecation warnings and progress logs, which are about its own
    insides.
    """
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path in a private folder beside `path`; what is written there, under any name, moves in
    at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        yield staged
        *data, _ = files = sorted(Path(folder).iterdir(), key=lambda file: file == staged)
        if data:
            # The graph names its files: while those change there is no graph, rather than an old
            # one with new weights.
            path.unlink(missing_ok=True)
        for file in files:
            file.replace(path.parent / file.name)
