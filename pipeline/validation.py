"""Extract the first problem of a pydantic error, for error messages that name one field."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError


class Problem(NamedTuple):
    """One invalid field: its name (``a.b`` for a nested one), pydantic's message and error type."""

    field: str
    message: str
    kind: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def first_problem(error: ValidationError) -> Problem:
    """Return the first problem that ``error`` lists, without the value that caused it."""
    detail = error.errors(include_url=False, include_input=False)[0]
    return Problem(".".join(map(str, detail["loc"])), detail["msg"], detail["type"])
