"""Fail with the names of source files that are longer than 400 lines."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 400
ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    "pipeline",
    "export",
    "proxy",
    "cli",
    "models",
    "model_repository",
    "bench",
    "scripts",
    "tests",
)


def long_files(root: Path) -> list[tuple[Path, int]]:
    """The Python files under ``root``'s source folders that exceed ``LIMIT`` lines, with their
    lengths.
    """
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    lengths = ((path.relative_to(root), len(path.read_text().splitlines())) for path in files)
    return [(path, length) for path, length in lengths if length > LIMIT]


def main() -> int:
    found = long_files(ROOT)
    for path, length in found:
        print(f"{path}: {length} lines, more than {LIMIT}: split it by responsibility")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
