"""Raw parameter values, as collected from the command line, the environment and a config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from pipeline.errors import TritonVideoError


class Origin(IntEnum):
    """The sources, weakest first."""

    CONFIG_FILE = 1
    ENVIRONMENT = 2
    COMMAND_LINE = 3


@dataclass(frozen=True)
class RawValue:
    """A value before validation, and where it comes from.

    ``place`` names the source in an error message; it is empty for the command line.
    """

    value: object
    origin: Origin
    place: str = ""


@dataclass
class RawParams:
    """All collected values by key, and the problems found while collecting them.

    ``excused`` holds the parameters that the ``problems`` are about: none of them is reported as
    missing as well.
    """

    values: dict[str, RawValue] = field(default_factory=dict)
    problems: list[TritonVideoError] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
