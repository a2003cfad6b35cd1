"""The values of a config file, and its errors, with their lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cli.failure import nearest
from cli.params.config_file import read_config
from cli.params.messages import describe
from cli.params.options import Kind, Parameter
from cli.params.raw import Origin, RawParams, RawValue
from pipeline.errors import InputError


def add_file(raw: RawParams, path: Path, parameters: Mapping[str, Parameter]) -> None:
    """Add the values of the config file at ``path``, and its errors, to ``raw``."""
    try:
        file = read_config(path)
    except InputError as error:
        raw.problems.append(error)
        raw.excused |= parameters.keys()  # any of them may be in it
        return
    for key, value in _flat(file.values, parameters):
        place = file.place(key)
        if key not in parameters:
            near = _near(key, parameters)
            raw.problems.append(
                InputError(key, f"unknown key {place}{_hint(value, parameters, near)}")
            )
            raw.excused |= {near} if near else set()
        elif not _fits(parameters[key].kind, value):
            words = parameters[key].kind.words
            raw.problems.append(
                InputError(key, f"should be {words}, not {describe(value)} ({place})")
            )
            raw.excused.add(key)
        elif key in raw.values:
            raw.problems.append(InputError(key, f"duplicate key ({place})"))
        elif value is not None:
            raw.values[key] = RawValue(value, Origin.CONFIG_FILE, f" ({place})")


def _flat(
    values: Mapping[str, object], parameters: Mapping[str, Parameter]
) -> Iterator[tuple[str, object]]:
    """Yield keys and values; those of a nested mapping are called ``outer.inner``."""
    for key, value in values.items():
        if isinstance(value, dict) and key in parameters and parameters[key].kind is Kind.MAPPING:
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _near(key: str, parameters: Mapping[str, Parameter]) -> str | None:
    return nearest(key.replace("-", "_").lower(), parameters)


def _hint(value: object, parameters: Mapping[str, Parameter], near: str | None) -> str:
    if isinstance(value, dict):
        inner = next((str(name) for name in value if str(name) in parameters), None)
        if inner:
            return f"; there is no such mapping; move {inner} to the top level"
    return f"; did you mean {near}?" if near else ""


def _fits(kind: Kind, value: object) -> bool:
    """Return whether a value has the type of its parameter; null fits any, as "not set"."""
    if value is None or kind is Kind.ANY:
        return True
    if kind is Kind.SWITCH or isinstance(value, bool):
        return kind is Kind.SWITCH and isinstance(value, bool)
    if kind is Kind.LIST and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    types = {Kind.INTEGER: int, Kind.NUMBER: (int, float), Kind.MAPPING: dict}
    return isinstance(value, types.get(kind, str))
