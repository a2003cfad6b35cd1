"""Compare each exported graph on ONNX Runtime with torch on the same inputs; beyond the limit the
export fails.

The reference is always the torch module in fp32 with the weights of the checkpoint. So a half
precision is judged with all its effects: rounded weights, rounded values between layers, and
rounded caches, which add up from chunk to chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from export.graph import Graph
from export.parity.cases import Case, cases, inputs
from export.parity.layers import first_difference
from export.parity.limits import Difference, Limits, compare
from export.parity.session import OnnxGraph
from export.records import ParityResult
from pipeline.errors import CheckpointError
from pipeline.families.parts import VAE_DECODER, Part
from pipeline.settings import GraphPrecision

__all__ = ["CHUNKS", "ParityError", "check"]

CHUNKS = 4
"""Chunks that a graph with caches runs: the first and three more, each side with its own caches."""

_NEXT = "next"
_SEED = 11


class ParityError(CheckpointError):
    """An exported graph differs from torch; the message names graph, inputs and layer."""


def check(
    graphs: Sequence[Graph], folder: Path, precision: GraphPrecision, part: Part = VAE_DECODER
) -> dict[str, ParityResult]:
    """Return how far each graph ``folder/<name>.onnx``, exported in ``precision``, is from the fp32
    module in ``graphs``.

    ``part`` decides the limit, which is stricter for VAEs. Raises ``ParityError`` beyond the limit.
    """
    limits = Limits.of(precision, part)
    opened = {graph.name: OnnxGraph(folder / f"{graph.name}.onnx") for graph in graphs}
    runs = _Runs({graph.name: graph for graph in graphs}, opened, folder, limits)
    for graph in graphs:
        if not set(graph.carried.values()) & {port.name for port in graph.inputs}:
            for case in cases(graph):
                runs.follow(graph, case)
    return {name: runs.result(name) for name in opened}


class _Runs:
    """Both sides of all graphs of one folder, and the differences of each graph so far."""

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        opened: Mapping[str, OnnxGraph],
        folder: Path,
        limits: Limits,
    ) -> None:
        self._graphs = graphs
        self._opened = opened
        self._folder = folder
        self._limits = limits
        self._differences: dict[str, list[Difference]] = {name: [] for name in opened}
        self._cases: dict[str, int] = dict.fromkeys(opened, 0)

    def follow(self, graph: Graph, case: Case) -> None:
        """Run one case through ``graph``, and on through the graph of the later chunks if there is
        one.
        """
        generator = torch.Generator().manual_seed(_SEED)
        carried: dict[str, torch.Tensor] = {}
        carried_onnx: dict[str, torch.Tensor] = {}
        for _ in range(CHUNKS if graph.carried else 1):
            fresh = inputs(
                tuple(port for port in graph.inputs if port.name not in carried), case, generator
            )
            expected = _run(graph, {**fresh, **carried})
            actual = self._opened[graph.name]({**fresh, **carried_onnx})
            self._cases[graph.name] += 1
            for name, reference in expected.items():
                self._judge(graph, case, name, reference, actual[name], {**fresh, **carried})
            carried = {into: expected[name] for name, into in graph.carried.items()}
            carried_onnx = {into: actual[name] for name, into in graph.carried.items()}
            graph = self._graphs[_NEXT] if carried else graph

    def result(self, name: str) -> ParityResult:
        """Return the result of the output that came nearest to its limit."""
        differences = self._differences[name]
        worst = max(
            differences, key=lambda difference: difference.max_abs / difference.limit_max_abs
        )
        return ParityResult(
            cases=self._cases[name],
            max_abs=worst.max_abs,
            cosine=min(difference.cosine for difference in differences),
            limit_max_abs=worst.limit_max_abs if self._limits.cosine is None else None,
            limit_cosine=self._limits.cosine,
        )

    def _judge(
        self,
        graph: Graph,
        case: Case,
        output: str,
        reference: torch.Tensor,
        actual: torch.Tensor,
        inputs: Mapping[str, torch.Tensor],
    ) -> None:
        if not reference.isfinite().all() and not case.vacuous:
            raise ParityError(
                f"the model itself, in torch and fp32, gives NaN or Inf as {output} for {case}"
            )
        difference = compare(reference.numpy(), actual.float().numpy())
        survives = case.vacuous or (case.hostile and self._limits.cosine is not None)
        if difference.exceeds(self._limits) and not (survives and difference.finite):
            path = self._folder / f"{graph.name}.onnx"
            layer = first_difference(graph, path, inputs, self._limits)
            raise ParityError(
                f"{path.name} is not what torch computes: {output} is wrong "
                f"({difference.text(self._limits)}) for {case}; {layer}"
            )
        if not survives:
            self._differences[graph.name].append(difference)


def _run(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        results = graph.module(*(inputs[port.name] for port in graph.inputs))
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(graph.outputs, results, strict=True))
