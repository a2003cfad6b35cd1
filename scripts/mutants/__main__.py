"""Measures whether the tests notice faults: ``make mutants``, or of some modules only
``make mutants ARGS="proxy/jobs pipeline/ranks/wire.py"``.

Puts one small fault at a time into each module of `scripts.mutants.targets` and runs that module's
tests. Prints the faults that no test noticed, and a table. What was run is kept in
``build/mutants.jsonl``, so that a run that was stopped resumes.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import multiprocessing
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from scripts.mutants import trial
from scripts.mutants.faults import Fault, sample
from scripts.mutants.targets import TARGETS

RECORD = trial.ROOT / "build" / "mutants.jsonl"
SHORTEST_LIMIT_S, LIMIT_FACTOR = 15.0, 5.0
UNCHANGED_LIMIT_S = 180.0


Row = dict[str, Any]


def main() -> int:
    args = _arguments()
    chosen = [name for name in TARGETS if not args.only or name.startswith(tuple(args.only))]
    known = _known()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        pool = ProcessPoolExecutor(
            args.workers, multiprocessing.get_context("fork"), trial.prepare, (Path(folder),)
        )
        with pool:
            futures: dict[Future[list[Row]], str] = {}
            for module in chosen:
                source = _text(trial.ROOT / module)
                tests = _digest(*(_text(trial.ROOT / test) for test in TARGETS[module]))
                faults = sample(module, source, args.each or None, args.seed)
                earlier, left = _sorted_out(faults, tests, known)
                rows += earlier
                for part in range(args.workers):
                    if share := left[part :: args.workers]:
                        futures[pool.submit(_try_all, source, share, tests)] = module
            for future in as_completed(futures):
                rows += future.result()
                print(f"{futures[future]}: done", flush=True)
    _print_survivors(rows)
    _print_table(chosen, rows)
    return 0


def _sorted_out(
    faults: Iterable[Fault], tests: str, known: Mapping[str, Row]
) -> tuple[list[Row], list[Fault]]:
    """The results that hold still, and the faults to try: survivors again where tests changed."""
    rows: list[Row] = []
    left: list[Fault] = []
    for fault in faults:
        row = known.get(_digest(fault.module, fault.source))
        if row and (row["outcome"] != "survived" or row["tests"] == tests):
            rows.append(row)
        else:
            left.append(fault)
    return rows, left


def _try_all(source: str, faults: list[Fault], tests: str) -> list[Row]:
    """Runs in a worker: the unchanged module first, for the time limit."""
    module = faults[0].module
    outcome, took = trial.run(module, source, TARGETS[module], UNCHANGED_LIMIT_S)
    if outcome != "survived":
        raise SystemExit(f"{module}: its tests fail without any fault:\n{trial.output()}")
    rows = []
    for fault in faults:
        limit = max(SHORTEST_LIMIT_S, LIMIT_FACTOR * took)
        outcome, seconds = trial.run(module, fault.source, TARGETS[module], limit)
        row = {
            "key": _digest(module, fault.source),
            "tests": tests,
            "module": module,
            "outcome": outcome,
            "line": fault.line,
            "kind": fault.kind,
            "seconds": round(seconds, 1),
            "diff": _difference(source, fault.source),
        }
        with RECORD.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
    return rows


def _known() -> dict[str, Row]:
    RECORD.parent.mkdir(exist_ok=True)
    lines = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def _text(tests: Path) -> str:
    files = sorted(tests.rglob("*.py")) if tests.is_dir() else [tests]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _difference(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def _print_survivors(rows: Iterable[Row]) -> None:
    for row in sorted(rows, key=lambda row: (row["module"], row["line"])):
        if row["outcome"] == "survived":
            print(f"\n{row['module']}:{row['line']} {row['kind']}", *row["diff"], sep="\n")


def _print_table(chosen: Iterable[str], rows: list[Row]) -> None:
    print("\n| module | faults | killed | survived | score |", "|---|---|---|---|---|", sep="\n")
    for module in (*chosen, ""):
        of_it = [row for row in rows if module in ("", row["module"])]
        survived = sum(row["outcome"] == "survived" for row in of_it)
        killed = len(of_it) - survived
        score = f"{100 * killed / len(of_it):.0f} %" if of_it else ""
        print(f"| {module or 'all'} | {len(of_it)} | {killed} | {survived} | {score} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("only", nargs="*", help="modules, by the start of their path; all if none")
    parser.add_argument("--each", type=int, default=20, help="faults a module; 0 for all (hours)")
    parser.add_argument("--seed", type=int, default=1, help="which faults are drawn")
    parser.add_argument("--workers", type=int, default=2, help="test runs at a time")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
