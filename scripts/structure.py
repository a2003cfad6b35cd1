"""Print how the code is built: modules, imports between them, circles, functions, wide lines.

    python scripts/structure.py                     this checkout
    python scripts/structure.py --beside REVISION   this checkout beside an older one
    python scripts/structure.py --timed             and the minutes of the tests, which it runs

A room is a module or a folder directly inside a package. An arrow is one room that imports another
one; a circle is a set of rooms that reach each other. Imports for type checking do not count.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

PACKAGES = ("pipeline", "export", "proxy", "cli")
WIDTH = 100
TARGETS = ("quick", "test", "test-all")
Modules = Mapping[str, ast.Module]
Row = tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--beside", metavar="REVISION", help="a commit of this repository")
    parser.add_argument("--timed", action="store_true", help="run the tests, and time them")
    options = parser.parse_args()
    beside = options.beside
    rows = list(measure(Path.cwd()))
    rows += [(f"make {target}: minutes", _minutes(target)) for target in TARGETS if options.timed]
    if beside:
        with tempfile.TemporaryDirectory() as folder:
            _check_out(beside, Path(folder))
            before = dict(measure(Path(folder)))
        rows = [(name, before.get(name, ""), value) for name, value in rows]
        rows.insert(0, ("", beside, "now"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)))


def measure(root: Path) -> Iterator[tuple[str, str]]:
    """What is measured, and its value."""
    for package in PACKAGES:
        files = sorted((root / package).rglob("*.py"))
        modules = {_name(root, file): ast.parse(file.read_text()) for file in files}
        rooms = {_room(name) for name in modules}
        arrows = set(_arrows(modules))
        yield f"{package}: modules, rooms", f"{len(modules)}, {len(rooms)}"
        yield f"{package}: arrows, circles between rooms", f"{len(arrows)}, {_circles(arrows)}"
        imports = set(_imports(modules))
        yield f"{package}: circles between modules", str(_circles(imports))
        yield f"{package}: longest function in lines", str(max(_functions(modules)))
        wide = (line for file in files for line in file.read_text().splitlines())
        yield f"{package}: lines over {WIDTH} columns", str(sum(len(line) > WIDTH for line in wide))


def _minutes(target: str) -> str:
    started = time.monotonic()
    passed = subprocess.run(["make", target], check=False).returncode == 0
    return f"{(time.monotonic() - started) / 60:.1f}{'' if passed else ' (failed)'}"


def _check_out(revision: str, folder: Path) -> None:
    packed = subprocess.run(
        ["git", "archive", revision, *PACKAGES], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _name(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _arrows(modules: Modules) -> Iterator[tuple[str, str]]:
    for importing, imported in _imports(modules):
        if _room(importing) != _room(imported):
            yield _room(importing), _room(imported)


def _imports(modules: Modules) -> Iterator[tuple[str, str]]:
    """Pairs of a module and another one of ``modules`` that it imports, also inside a function."""
    for name, tree in modules.items():
        for node in _run_nodes(tree):
            for imported in _imported(node, modules):
                if imported != name:
                    yield name, imported


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from _run_nodes(child)


def _imported(node: ast.AST, modules: Modules) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if full in modules or node.module in modules:
                yield full if full in modules else node.module


def _circles(pairs: set[tuple[str, str]]) -> int:
    """How many circles are found one after another, each taken out before the next is sought."""
    pairs, found = set(pairs), 0
    while True:
        graph = TopologicalSorter[str]()
        for importing, imported in sorted(pairs):
            graph.add(importing, imported)
        try:
            graph.prepare()
        except CycleError as error:
            circle = error.args[1]
            pairs -= {(b, a) for a, b in pairwise(circle)}
            found += 1
        else:
            return found


def _functions(modules: Modules) -> Iterator[int]:
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    main()
