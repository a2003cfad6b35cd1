"""Accept triton-video on one GPU: correctness first, then seconds; a line a result, a table last.

    python bench/gpu/accept.py                  every section but Triton's
    python bench/gpu/accept.py --only dit,vae   some sections
    python bench/gpu/accept.py --tiny           on a CPU at toy sizes: does the script work?

Each section is a separate process: its memory is returned, and a crash costs one section. Logs
and ``results.json`` are written to ``--out``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.gpu.results import Result, results_in, table
from bench.gpu.sections import SECTIONS, Section
from bench.gpu.sizes import PUBLISHED, TINY

LEAST_S = 15.0
"""A section is not started with less time left."""
TINY_FACTOR = 10
"""How much longer than on a GPU a section may take at toy sizes, on a CPU that is busy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections; 1 if one of them failed or was left out."""
    options = _options(arguments)
    if options.section:
        module = importlib.import_module(f"bench.gpu.sections.{options.section}")
        module.run(options.work, TINY if options.tiny else PUBLISHED)
        return 0
    started = time.monotonic()
    results: list[Result] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for section in options.only:
        left = options.budget - (time.monotonic() - started)
        results += _run(section, options, left)
        rows = [asdict(result) for result in results]
        (options.out / "results.json").write_text(json.dumps(rows, indent=1))
    print(table(results))
    ends = [result for result in results if result.name.startswith("[")]
    return 0 if all(end.value == "done" for end in ends) else 1


def _sections(names: str) -> list[Section]:
    known = {section.name: section for section in SECTIONS}
    if unknown := set(names.split(",")) - known.keys():
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: no such section; the sections are {', '.join(known)}"
        )
    return [known[name] for name in names.split(",")]


def _run(section: Section, options: argparse.Namespace, left: float) -> list[Result]:
    """The section's results, and how it ended."""
    end = f"[{section.name}]"
    if left < LEAST_S:
        return [Result(end, "left out", note="no time")]
    started = time.monotonic()
    command = [sys.executable, __file__, "--section", section.name, "--work", str(options.work)]
    log = options.out / f"{section.name}.log"
    with log.open("w") as file:
        try:
            code: int | str = subprocess.run(
                [*command, *(["--tiny"] if options.tiny else [])],
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=min(left, (TINY_FACTOR if options.tiny else 2) * section.seconds),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = "timeout"
    text = log.read_text(errors="replace")
    note = f"{time.monotonic() - started:.0f} s"
    if code != 0:
        note += ": " + text[-300:].replace("\n", " | ")
    print(f"{end} {code} {note}", flush=True)
    return [*results_in(text), Result(end, "done" if code == 0 else f"ended with {code}", "", note)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="toy sizes, for a CPU")
    most = [section for section in SECTIONS if not section.starts_triton]
    names = "names of sections, separated by commas"
    parser.add_argument("--only", type=_sections, default=most, help=names)
    parser.add_argument("--budget", type=float, default=480, help="seconds for all sections")
    work = Path(tempfile.gettempdir()) / "triton-video-acceptance"
    parser.add_argument("--work", type=Path, default=work, help="folder of checkpoints and videos")
    out = Path(os.environ.get("OUT", work))
    parser.add_argument("--out", type=Path, default=out, help="folder of logs and results")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
