"""Reads the Dockerfile, as far as this project writes one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

FROM = re.compile(r"(?P<base>\S+) AS (?P<name>\S+)")


@dataclass
class Stage:
    """A ``FROM`` and the instructions below it, as (name, arguments)."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.instructions if name == instruction]


@dataclass
class Dockerfile:
    """``arguments`` are those before the first stage, with their defaults."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        # Comments go first: one may stand between the lines of an instruction.
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        found = cls({}, {})
        stage = None
        for line in filter(None, re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines()):
            name, _, arguments = line.partition(" ")
            if name == "FROM":
                match = FROM.fullmatch(arguments)
                assert match, f"a stage without a name: {line}"
                stage = found.stages[match["name"]] = Stage(match["name"], match["base"])
            elif stage:
                stage.instructions.append((name, arguments))
            else:
                assert name == "ARG", f"before the first stage: {line}"
                argument, _, default = arguments.partition("=")
                found.arguments[argument] = default
        return found

    def chain(self, name: str) -> list[Stage]:
        """The stage and those that it is made from, up to an image that is not ours."""
        stage = self.stages[name]
        return [stage, *(self.chain(stage.base) if stage.base in self.stages else [])]

    def every(self, name: str, instruction: str) -> list[str]:
        """The arguments of ``instruction`` in the stage and those that it is made from, the
        nearest first.
        """
        return [arguments for stage in self.chain(name) for arguments in stage.all(instruction)]
