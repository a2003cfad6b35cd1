"""One parameter as all its front ends see it, and the click options made from the models' fields."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.parameters import GROUPS, SHORT_FLAGS, TITLES

VARIABLE_PREFIX = "TRITON_VIDEO_"


class Kind(Enum):
    """What sort of value a parameter takes: the metavar of its flag, and the words of its errors."""

    TEXT = "TEXT", "text"
    PATH = "PATH", "a path"
    INTEGER = "INTEGER", "a whole number"
    NUMBER = "NUMBER", "a number"
    SWITCH = "", "true or false"
    LIST = "TEXT", "a list of texts"
    ANY = "VALUE", "a value"

    @property
    def metavar(self) -> str:
        return self.value[0]

    @property
    def words(self) -> str:
        return self.value[1]


@dataclass(frozen=True)
class Parameter:
    """A field of one of the models in `cli.parameters`. ``key`` is its name in config files."""

    key: str
    group: str
    field: FieldInfo
    kind: Kind
    choices: tuple[str, ...]

    @property
    def flag(self) -> str | None:
        """``--num-frames``. None for structured values, which only a config file can hold."""
        return None if self.kind is Kind.ANY else "--" + self.key.replace("_", "-")

    @property
    def off_flag(self) -> str | None:
        return f"--no-{self.key.replace('_', '-')}" if self.kind is Kind.SWITCH else None

    @property
    def short_flag(self) -> str | None:
        return SHORT_FLAGS.get(self.key)

    @property
    def variable(self) -> str | None:
        """The environment variable; None where there is no flag."""
        return None if self.flag is None else VARIABLE_PREFIX + self.key.upper()

    @property
    def metavar(self) -> str:
        return "|".join(self.choices) or self.kind.metavar

    @property
    def default_words(self) -> str:
        """The default as the docs name it."""
        if self.field.is_required():
            return "required"
        value = self.field.default
        if value is None or value == ():
            return "random" if self.key == "seed" else "the model's" if self.group == "sampling" else "none"
        return {True: "on", False: "off"}[value] if self.kind is Kind.SWITCH else str(value)


def parameters_of(groups: Mapping[str, type[BaseModel]] = GROUPS) -> dict[str, Parameter]:
    """Every parameter by its key, in the order of declaration."""
    found = {}
    for group, model in groups.items():
        for name, field in model.model_fields.items():
            key = field.alias or name
            kind, choices = _kind(field.annotation)
            found[key] = Parameter(key, group, field, kind, choices)
    return found


def click_options(parameters: Iterable[Parameter]) -> list[click.Option]:
    """An option per parameter that has a flag. Values stay text: the models convert them and judge all at once."""
    return [_click_option(parameter) for parameter in parameters if parameter.flag]


class GroupedCommand(click.Command):
    """A command made from groups of parameters and ``--config``; its help lists them under the groups' titles."""

    def __init__(self, name: str, groups: Mapping[str, type[BaseModel]], **rest: Any):
        self._parameters = parameters_of(groups)
        config = click.Option(["--config"], metavar="FILE", help="JSON or YAML file with any of these parameters.")
        super().__init__(name, params=[*click_options(self._parameters.values()), config], **rest)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        group_of = {parameter.key: parameter.group for parameter in self._parameters.values()}
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in (*TITLES.values(), "Other")}
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                rows[TITLES.get(group_of.get(option.name or "", ""), "Other")].append(record)
        for title, records in rows.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def typed(values: Mapping[str, object]) -> dict[str, object]:
    """Of the values that click hands over, those that were typed: options have no other default here."""
    return {key: value for key, value in values.items() if value is not None and value != ()}


def _click_option(parameter: Parameter) -> click.Option:
    long = f"{parameter.flag}/{parameter.off_flag}" if parameter.off_flag else str(parameter.flag)
    names = [name for name in (parameter.short_flag, long, parameter.key) if name]
    words = f"{parameter.field.description} [{parameter.default_words}]"
    if parameter.kind is Kind.LIST:
        return click.Option(names, metavar=parameter.metavar, help=words, multiple=True, default=None)
    if parameter.off_flag:
        return click.Option(names, default=None, help=words)
    return click.Option(names, metavar=parameter.metavar, help=words)


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """The kind of a field's annotation, and its choices if it is a Literal."""
    inner = next(_without_none(annotation), None)
    if get_origin(inner) is Annotated:
        return _kind(get_args(inner)[0])
    if get_origin(inner) is tuple:
        return Kind.LIST, ()
    if get_origin(inner) is Literal:
        return Kind.TEXT, get_args(inner)
    kinds = {str: Kind.TEXT, Path: Kind.PATH, int: Kind.INTEGER, float: Kind.NUMBER, bool: Kind.SWITCH}
    return kinds.get(inner, Kind.ANY), ()


def _without_none(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        yield from (argument for argument in get_args(annotation) if argument is not type(None))
    else:
        yield annotation
