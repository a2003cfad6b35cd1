"""Turns what pydantic finds wrong into a sentence for the person who typed it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ErrorDetails

from cli.failure import nearest
from cli.params.raw import RawValue

_SENTENCES = {
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "finite_number": "should be a finite number",
    "string_too_long": "is too long: at most {max_length} characters are possible",
    "extra_forbidden": "is not a known key",
    "value_error": "{error}",
}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def reason(detail: ErrorDetails, given: Mapping[str, RawValue]) -> tuple[str, str]:
    """The key at fault and what is wrong with its value, in words, with the place the value came
    from.
    """
    key = str(detail["loc"][0])
    kind = detail["type"]
    if kind == "missing":
        return key, f"is needed: give --{key.replace('_', '-')}, or {key} in a config file"
    if len(detail["loc"]) > 1 and isinstance(part := detail["loc"][1], str):
        key = f"{key}.{part}"  # of a nested model
    place = given[key].place if key in given else ""
    if kind == "string_too_short":
        return key, f"should not be empty{place}"
    if kind == "literal_error":
        return key, _choice(detail) + place
    if kind == "string_pattern_mismatch":
        return key, f"should be HOST:PORT, not {_shown(detail['input'])}{place}"
    if (prefix := kind.partition("_")[0]) in _KINDS:
        return key, f"should be {_KINDS[prefix]}, not {_shown(detail['input'])}{place}"
    bounds = {name: _plain(bound) for name, bound in detail.get("ctx", {}).items()}
    sentence = _SENTENCES[kind].format(**bounds) if kind in _SENTENCES else detail["msg"]
    return (
        key,
        f"{sentence}, not {_shown(detail['input'])}{place}"
        if kind in _BOUNDS
        else sentence + place,
    )


def describe(value: object) -> str:
    """A config value in the words of an error message; never long, whatever the value is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return (
            _cut(str(value))
            if isinstance(value, float) or abs(value) < 10**30
            else "a very long number"
        )
    if isinstance(value, str):
        return f"the text {_cut(value)!r}"
    return {list: "a list", dict: "a mapping", type(None): "null"}.get(
        type(value), f"a {type(value).__name__}"
    )


def _plain(bound: object) -> object:
    """A bound as people write it: that of a number is 1, not 1.0."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _choice(detail: ErrorDetails) -> str:
    expected: str = detail.get("ctx", {}).get("expected", "").replace("'", "")
    if expected in ("True", "False"):
        expected = expected.lower()
    near = nearest(str(detail["input"]), expected.replace(" or ", ", ").split(", "))
    hint = f"; did you mean {near}?" if near else ""
    return f"should be {expected}, not {_shown(detail['input'])}{hint}"


def _shown(value: object) -> str:
    """The value as it was typed: on a command line everything is text, and quotes around a
    number would mislead.
    """
    plain = (
        isinstance(value, str)
        and len(value) <= 40
        and value.isprintable()
        and value.strip() == value != ""
    )
    return str(value) if plain else describe(value)
