"""The faults that cosmic-ray can put into a module, one of each kind at each place."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

Position = tuple[int, int]


@dataclass(frozen=True)
class Fault:
    """One changed module: ``line`` is where, ``kind`` the operator of cosmic-ray, ``source`` the
    whole text.
    """

    module: str
    line: int
    kind: str
    source: str


def sample(module: str, source: str, count: int | None, seed: int) -> list[Fault]:
    """Up to ``count`` faults of ``module``, the same for the same seed; None returns all.

    A place that one operator can change in many ways (``+`` to ten others) counts once, with one
    of the ways.
    """
    chance = random.Random(f"{seed} {module}")
    places = [chance.choice(ways) for ways in _places(source).values()]
    chance.shuffle(places)
    made = (fault for place in places if (fault := _fault(module, source, *place)))
    return [fault for fault, _ in zip(made, range(count or len(places)), strict=False)]


def _places(source: str) -> dict[tuple[Position, str], list[tuple[str, int, Position]]]:
    """By position and family: the operators, each with its occurrence, that change it."""
    found: dict[tuple[Position, str], list[tuple[str, int, Position]]] = {}
    annotations = list(_annotations(source))
    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        operator = _operator(name)
        if operator is None:
            continue
        positions = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(positions):
            if not any(first <= start < last for first, last in annotations):
                family = name.partition("_")[0]
                found.setdefault((start, family), []).append((name, occurrence, start))
    return found


def _annotations(source: str) -> Iterator[tuple[Position, Position]]:
    """Where types are written: never evaluated, so that no test could notice a fault there."""
    for node in ast.walk(ast.parse(source)):
        parts = (getattr(node, "annotation", None), getattr(node, "returns", None))
        for part in parts:
            if isinstance(part, ast.expr):
                yield (
                    (part.lineno, part.col_offset),
                    (part.end_lineno or 0, part.end_col_offset or 0),
                )


def _fault(
    module: str, source: str, name: str, occurrence: int, position: Position
) -> Fault | None:
    """None for a change that makes no other program."""
    try:
        changed = mutate_code(source, _operator(name), occurrence)
    except AttributeError:  # cosmic-ray's own, for ``except (package.Error, ...)``
        return None
    if changed is None:
        return None
    try:
        same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
    except SyntaxError:
        return None
    return None if same else Fault(module, position[0], name.removeprefix("core/"), changed)


def _operator(name: str) -> Any:
    """None for an operator that needs arguments of the user's."""
    operator = get_operator(name)
    return None if operator.arguments() else operator()
