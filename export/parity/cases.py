"""The inputs of the parity check: sizes from a graph's ranges, values likely to hostile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from export.graph import Graph, Port

Fill = Literal["random", "zeros", "large", "extreme", "padding", "first token", "last token"]

# A case costs at most as many floating point operations, or has at most as many cells (tokens, or
# latent cells of a VAE), whichever is more. That is a fraction of a second for a small model, and
# for the largest known, a text encoder of 6 B parameters and Wan's VAE, half a minute on two
# cores.
BUDGET_FLOP = 2e9
BUDGET_CELLS = 200

# Latents have a deviation of 1, pixels are in [-1, 1]: no input is ever this large.
LARGE = 20.0


@dataclass(frozen=True)
class Case:
    """``sizes`` of a graph's ranges and what its inputs are filled with.

    No request makes a hostile case: a half precision only has to survive it without NaN or Inf. A
    vacuous case has no right values, because attention over nothing is undefined and norms of equal
    values amplify rounding: it only has to be survived, in fp32 too.
    """

    which: str
    sizes: Mapping[str, int]
    fill: Fill

    @property
    def hostile(self) -> bool:
        return self.fill in ("large", "extreme")

    @property
    def vacuous(self) -> bool:
        return self.fill in ("zeros", "padding")

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        return f"{self.fill}, {self.which} sizes ({sizes})"


def cases(graph: Graph) -> tuple[Case, ...]:
    """Return random values at up to four sizes, and the other fills at odd sizes, which no two
    dimensions share.
    """
    sizes = _sizes(graph)
    tokens = any(not port.dtype.is_floating_point for port in graph.inputs)
    fills: tuple[Fill, ...] = (
        ("padding", "first token", "last token") if tokens else ("zeros", "large", "extreme")
    )
    return (
        *(Case(which, chosen, "random") for which, chosen in sizes.items()),
        *(Case("odd", sizes.get("odd", sizes["min"]), fill) for fill in fills),
    )


def inputs(
    ports: tuple[Port, ...], case: Case, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return the input tensors of a case by name; random ones are drawn from ``generator``."""
    return {
        port.name: _values(port, port.shape(case.sizes), case.fill, generator) for port in ports
    }


def _values(
    port: Port, shape: tuple[int, ...], fill: Fill, generator: torch.Generator
) -> torch.Tensor:
    if not port.dtype.is_floating_point:
        values = (
            _mask(shape, fill, generator)
            if port.below == 2
            else _tokens(port, shape, fill, generator)
        )
        return values.to(port.dtype)
    if fill == "zeros":
        return torch.zeros(shape)
    values = torch.randn(shape, generator=generator)
    if fill == "extreme":
        return values.sign() * LARGE
    return values * LARGE if fill == "large" else values


def _tokens(
    port: Port, shape: tuple[int, ...], fill: Fill, generator: torch.Generator
) -> torch.Tensor:
    if fill in ("padding", "first token"):
        return torch.zeros(shape)
    if fill == "last token":
        return torch.full(shape, port.below - 1)
    return torch.randint(0, port.below, shape, generator=generator)


def _mask(shape: tuple[int, ...], fill: Fill, generator: torch.Generator) -> torch.Tensor:
    """Return ones, then zeros: the first row is full, the others end at a random place."""
    if fill == "padding":
        return torch.zeros(shape)
    lengths = torch.randint(1, shape[-1] + 1, shape[:-1], generator=generator)
    lengths[0] = shape[-1]
    return torch.arange(shape[-1]) < lengths[..., None]


def _sizes(graph: Graph) -> dict[str, dict[str, int]]:
    """Return the min, odd, opt and max sizes, each made smaller until it is within the budget,
    without repetitions.
    """
    smallest = {name: bounds.min for name, bounds in graph.ranges.items()}
    flop_per_cell = _flop(graph, smallest) / math.prod(smallest.values())
    budget = max(BUDGET_FLOP / max(flop_per_cell, 1.0), BUDGET_CELLS)
    wanted = {
        "min": smallest,
        "odd": {name: _odd(graph, name, index) for index, name in enumerate(graph.ranges)},
        "opt": {name: bounds.opt for name, bounds in graph.ranges.items()},
        "max": {name: bounds.max for name, bounds in graph.ranges.items()},
    }
    chosen: dict[str, dict[str, int]] = {}
    for which, sizes in wanted.items():
        shrunk = next(
            smaller
            for smaller in _shrinking(sizes, smallest)
            if _fits(smaller, budget) or smaller == smallest
        )
        if shrunk not in chosen.values():
            chosen[which] = shrunk
    return chosen


def _fits(sizes: Mapping[str, int], budget: float) -> bool:
    return math.prod(sizes.values()) <= budget


def _odd(graph: Graph, name: str, index: int) -> int:
    """Return the odd number near the geometric mean of min and opt, another one for each range as
    far as its bounds allow.
    """
    bounds = graph.ranges[name]
    middle = (round(math.sqrt(bounds.min * bounds.opt)) | 1) + 2 * index
    return min(max(middle, bounds.min), bounds.max)


def _shrinking(sizes: dict[str, int], smallest: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield ``sizes``, then again and again with the size that is furthest above its smallest one
    reduced by a fourth, down to ``smallest``.
    """
    sizes = dict(sizes)
    while True:
        yield dict(sizes)
        name = max(sizes, key=lambda name: sizes[name] / smallest[name], default=None)
        if name is None or sizes[name] == smallest[name]:
            return
        sizes[name] = max(smallest[name], sizes[name] * 3 // 4)


def _flop(graph: Graph, sizes: Mapping[str, int]) -> int:
    """Count the operations of one run at these sizes by running it; small sizes cost little."""
    zeros = [torch.zeros(port.shape(sizes), dtype=port.dtype) for port in graph.inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph.module(*zeros)
    return counter.get_total_flops()
