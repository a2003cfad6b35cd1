"""From a graph to its ONNX file: one set of exporter options, quiet logs and atomic files."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from export.graph import Graph

# The exporter's own op library is written for opset 18: asking for another one costs a conversion of the whole graph,
# and every runtime we serve with (ONNX Runtime, TensorRT 10 and later) reads it.
OPSET = 18

# Protobuf cannot hold more than 2 GiB; the margin is for the graph itself.
_PROTOBUF_LIMIT_BYTES = 2**31 - 2**26

_NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def capture(graph: Graph, path: Path) -> int:
    """Traces the graph's module and writes it to `path`; readers see the old file or the whole new one.

    Returns the number of its nodes.

    Weights go to ``<path>.data`` beside the graph only where the model would not fit in one protobuf file.
    """
    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            _Flat(graph.module).eval(),
            graph.example(),
            input_names=[port.name for port in graph.inputs],
            output_names=list(graph.outputs),
            dynamic_shapes=(graph.dynamic_shapes(),),
            opset_version=OPSET,
            dynamo=True,
            verify=False,
            verbose=False,
        )
    assert program is not None  # None is what the retired TorchScript exporter returns
    with replacing(path) as staged:
        program.save(staged, external_data=_size_in_bytes(graph.module) > _PROTOBUF_LIMIT_BYTES)
    return sum(1 for _ in program.model.graph)


class _Flat(torch.nn.Module):
    """The same module with all its inputs in one list: the tracer nests the shapes of variable arguments."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Drops the exporter's deprecation warnings and progress logs, which are about its own insides."""
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
    """A path in a private folder beside `path`; what is written there, also under longer names, moves in at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        yield staged
        # The graph refers to its weights by file name, so it goes last.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == staged):
            file.replace(path.parent / file.name)


def _size_in_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())
