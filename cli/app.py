"""What the entry point hands to every command, as click's ``ctx.obj``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cli.failure import Style, UsageProblem

if TYPE_CHECKING:
    import click

    from cli.run.backend import Backend


@dataclass
class Prevalidated:
    """The ``words`` of a command line that click can parse, and the ``problems`` of the others.

    ``excused`` are the parameters that the problems are about.
    """

    words: list[str] = field(default_factory=list)
    problems: list[UsageProblem] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)


@dataclass
class App:
    """The state of one run of the command line."""

    style: Style = field(default_factory=Style)
    """How a failure is reported; a command adjusts it once its parameters are known."""
    backend: Backend | None = None
    """Replaces the real server and client in tests."""
    prevalidated: Prevalidated = field(default_factory=Prevalidated)
    """The words of the command that is running."""

    @classmethod
    def of(cls, ctx: click.Context) -> App:
        """Return the run's state."""
        return ctx.ensure_object(cls)
