"""Turns pydantic's errors into messages for users."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ErrorDetails

from cli.failure import nearest
from cli.params.field_types import GIGABYTES, GPU_LIST
from cli.params.raw import RawValue

_SENTENCES = {
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "finite_number": "should be a finite number",
    "string_too_long": "is too long; at most {max_length} characters are allowed",
    "extra_forbidden": "is not a known key",
    "value_error": "{error}",
}
_PATTERNS = {
    GPU_LIST: "0 or GPUs such as 4x80GB or 24GB,12GB",
    GIGABYTES: "gigabytes such as 512GB",
}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def reason(detail: ErrorDetails, values: Mapping[str, RawValue]) -> tuple[str, str]:
    """Return the invalid key, and a message with what is wrong and where the value came from."""
    key = str(detail["loc"][0])
    kind = detail["type"]
    if kind == "missing":
        return key, f"required; pass --{key.replace('_', '-')} or set it in the config file"
    if len(detail["loc"]) > 1 and isinstance(part := detail["loc"][1], str):
        key = f"{key}.{part}"  # of a nested model
    place = values[key].place if key in values else ""
    if kind == "string_too_short":
        return key, f"should not be empty{place}"
    if kind == "literal_error":
        return key, _choice(detail) + place
    if kind == "string_pattern_mismatch":
        wanted = _PATTERNS.get(detail.get("ctx", {}).get("pattern", ""), "HOST:PORT")
        return key, f"should be {wanted}, not {_shown(detail['input'])}{place}"
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
    """Return a short description of a value for an error message."""
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
    """Return a bound without a needless fraction: 1, not 1.0."""
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
    """Return the value as it was typed, without quotes that would suggest another type."""
    plain = (
        isinstance(value, str)
        and len(value) <= 40
        and value.isprintable()
        and value.strip() == value != ""
    )
    return str(value) if plain else describe(value)
