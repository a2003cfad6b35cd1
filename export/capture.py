"""Write a graph as an ONNX file, with one set of exporter options, quiet logs and atomic files.

The graph is traced and simplified without the values of its parameters, which are added at the end,
one by one.
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
from export.parameters import fake_parameters
from export.weights.initialisers import Source, fill
from export.weights.models import stored_names
from export.weights.stored import stored_tensors

# The exporter's own op library is written for opset 18: asking for another one costs a conversion
# of the whole graph, and every runtime we serve with (ONNX Runtime, TensorRT 10 and later) reads
# it.
OPSET = 18

_NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def capture(graph: Graph, path: Path, weights: Path | None = None) -> int:
    """Trace the graph's module, write it to ``path`` and return the number of its nodes. Readers
    see the old file or the whole new one.

    Values of parameters are those of the module. Where its parameters have no memory
    (``export.weights.empty_model``), they are those of the component folder ``weights``. More than
    a few MiB of them are stored beside ``path``: in ``<path>.data`` and in the checkpoint's own
    safetensors files (see ``export.weights.initialisers``).
    """
    module = FlatInputs(graph.module).eval()
    model = _traced(module, graph)
    sources = _sources(module, weights)
    parameters = {
        value: sources[name] for name, value in model.graph.initializers.items() if name in sources
    }
    for value in parameters:
        value.const_value = None  # a fake, which constant folding must not read
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
    assert program is not None  # only the retired TorchScript exporter returns None
    return program.model


def _sources(module: torch.nn.Module, weights: Path | None) -> dict[str, Source]:
    """Return where the values of each parameter are, by its name."""
    if weights is None:
        return dict(module.named_parameters(remove_duplicate=False))
    stored = stored_tensors(weights)
    return {name: stored[stored_as] for name, stored_as in stored_names(module).items()}


class FlatInputs(torch.nn.Module):
    """The same module with all inputs in one list, because the tracer nests the shapes of variable
    arguments.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the exporter's deprecation warnings and progress logs, which concern its own
    internals.
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
    """Yield a path in a private folder beside ``path``; all files written there move beside
    ``path`` at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        yield staged
        *data, _ = files = sorted(Path(folder).iterdir(), key=lambda file: file == staged)
        if data:
            # The graph names its files: remove it while they change, so that no old graph has new
            # weights.
            path.unlink(missing_ok=True)
        for file in files:
            file.replace(path.parent / file.name)
