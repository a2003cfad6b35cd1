"""Writes the table of docs/clients/index.md: runs the tests that call the server with each client,
and puts the row of each into the page.

``python -m scripts.client_matrix`` needs the clients of scripts/clients.sh and
scripts/client_programs.sh. A client that did not get as far as its row keeps its old one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "clients" / "index.md"
TESTS = ROOT / "tests" / "e2e" / "clients" / "test_matrix.py"
TABLE = re.compile(r"(<!-- clients: begin -->\n).*?(<!-- clients: end -->)", re.DOTALL)


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.e2e.clients.matrix import HEAD

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The newer family of reports has no properties of tests, and a warning about them fails.
        flags = ("-q", "-o", "junit_family=xunit1", f"--junitxml={report}")
        command = [sys.executable, "-m", "pytest", *flags, str(TESTS)]
        subprocess.run(command, cwd=ROOT, check=False)
        seen = rows(report)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_rows(page, HEAD, seen), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(seen)} rows")
    return 0


def rows(report: Path) -> list[str]:
    """Return the rows that the tests recorded, in the order of the tests."""
    tree = ElementTree.parse(report)  # noqa: S314  (pytest has just written it)
    return [item.attrib["value"] for item in tree.iter("property") if item.attrib["name"] == "row"]


def with_rows(page: str, head: str, seen: Iterable[str]) -> str:
    """Return ``page`` with these rows; a client that is not among them keeps its row."""
    table = TABLE.search(page)
    if table is None:
        raise ValueError(f"{PAGE.name} has no place for the table")
    old = [line for line in table[0].splitlines() if line.startswith("| [")]
    new = {row.split(" | ")[0]: row for row in [*old, *seen]}
    body = "\n".join([head, *new.values(), ""])
    return TABLE.sub(lambda match: f"{match[1]}{body}{match[2]}", page)


if __name__ == "__main__":
    sys.exit(main())
