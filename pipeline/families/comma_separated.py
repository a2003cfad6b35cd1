"""Parse lists that are written as one string, as in an environment variable or a flag."""

from __future__ import annotations


def comma_separated(value: object) -> object:
    """Split a string at its commas, without blank entries; return any other value unchanged.

    For pydantic's ``BeforeValidator``.
    """
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
