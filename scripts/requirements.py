"""Print the requirements of an image, one per line.

    python requirements.py proxy tracing [--without NAME]

Used by a build that installs packages before the project's code. Standard library only.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements(
    project: Mapping[str, Any], extras: Sequence[str], without: Collection[str] = ()
) -> Iterator[str]:
    """The project's own requirements and those of ``extras``, except packages called as in
    ``without``.

    Raises ``KeyError`` for an extra that is not declared.
    """
    groups = [
        project["dependencies"],
        *(project["optional-dependencies"][extra] for extra in extras),
    ]
    wanted = dict.fromkeys(requirement for group in groups for requirement in group)
    return (requirement for requirement in wanted if _name(requirement) not in without)


def _name(requirement: str) -> str:
    found = NAME.match(requirement)
    assert found, f"{requirement!r} names no package"
    return found[0]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--project", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--without", action="append", default=[])
    given = parser.parse_args(arguments)
    project = tomllib.loads(given.project.read_text(encoding="utf-8"))["project"]
    print("\n".join(requirements(project, given.extras, given.without)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
