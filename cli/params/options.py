"""A parameter as flag, config key and variable, and the click options made from the models."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.app import App
from cli.failure import InputErrors, UsageProblem, usage
from cli.params.commands import CommandParams
from cli.params.field_types import OTHER_FLAG
from cli.params.prevalidate import prevalidate

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE_PREFIX = "TRITON_VIDEO_"
NESTING = "__"
SHORT_FLAGS: Mapping[str, str] = {"quiet": "-q", "verbose": "-v"}
DEFAULTS = {"sampling": "the model's", "bounds": "the device's"}  # by group: what None means


class Kind(Enum):
    """The kind of value a parameter takes: the metavar of its flag, and its name in errors."""

    TEXT = "TEXT", "text"
    PATH = "PATH", "a path"
    INTEGER = "INTEGER", "a whole number"
    NUMBER = "NUMBER", "a number"
    SWITCH = "", "true or false"
    LIST = "TEXT", "a list of texts"
    MAPPING = "", "a mapping"
    ANY = "VALUE", "a value"

    @property
    def metavar(self) -> str:
        return self.value[0]

    @property
    def words(self) -> str:
        return self.value[1]


@dataclass(frozen=True)
class Parameter:
    """A field of one of a command's groups.

    ``key`` is its name in config files. The key of a field of a nested model is ``outer.inner``;
    config files hold it in a mapping. ``title`` is the heading of its ``group``.
    """

    key: str
    group: str
    title: str
    field: FieldInfo
    kind: Kind
    choices: tuple[str, ...]

    @property
    def flag(self) -> str | None:
        """Such as ``--num-frames``. None for structured values, which need a config file."""
        return None if self.kind in (Kind.ANY, Kind.MAPPING) else "--" + self.key.replace("_", "-")

    @property
    def name(self) -> str:
        """The name in click, which has to be a Python identifier."""
        return self.key.replace(".", NESTING)

    @property
    def off_flag(self) -> str | None:
        return f"--no-{self.key.replace('_', '-')}" if self.kind is Kind.SWITCH else None

    @property
    def short_flag(self) -> str | None:
        return SHORT_FLAGS.get(self.key)

    @property
    def other_flag(self) -> str | None:
        """Another flag of the same meaning."""
        extra = self.field.json_schema_extra
        return str(extra[OTHER_FLAG]) if isinstance(extra, dict) and OTHER_FLAG in extra else None

    @property
    def variable(self) -> str | None:
        """The environment variable; None where there is no flag."""
        return None if self.flag is None else VARIABLE_PREFIX + self.key.replace(".", "_").upper()

    @property
    def metavar(self) -> str:
        return "|".join(self.choices) or self.kind.metavar

    @property
    def default_words(self) -> str:
        """The default as the reference shows it."""
        if self.field.is_required():
            return "required"
        value = self.field.default
        if value is None or value == ():
            return "random" if self.key == "seed" else DEFAULTS.get(self.group, "none")
        return {True: "on", False: "off"}[value] if self.kind is Kind.SWITCH else str(value)


def parameters_of(command: type[CommandParams]) -> dict[str, Parameter]:
    """Return every parameter of a command by its key, in the order of declaration."""
    found = {}
    for group, field in command.model_fields.items():
        assert field.title is not None
        for parameter in _fields(model_of(field), group, field.title):
            found[parameter.key] = parameter
    return found


def model_of(field: FieldInfo) -> type[BaseModel]:
    """Return the model of a group, from its field in a command's parameters."""
    model = field.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def _fields(model: type[BaseModel], group: str, title: str, outer: str = "") -> Iterator[Parameter]:
    for name, field in model.model_fields.items():
        key = f"{outer}{field.alias or name}"
        kind, choices = _kind(field.annotation)
        yield Parameter(key, group, title, field, kind, choices)
        if kind is Kind.MAPPING:
            yield from _fields(next(_without_none(field.annotation)), group, title, f"{key}.")


def click_options(parameters: Iterable[Parameter]) -> list[click.Option]:
    """Return an option for each parameter that has a flag.

    Values stay text: the models convert and validate all of them together.
    """
    return [_click_option(parameter) for parameter in parameters if parameter.flag]


class ParamsCommand(click.Command):
    """A command with the parameters of ``model`` and ``--config``; help lists them by group."""

    def __init__(self, name: str, model: type[CommandParams], **rest: Any):
        self._model = model
        self._parameters = parameters_of(model)
        config = click.Option(
            ["--config"], metavar="FILE", help="JSON or YAML file with any of these parameters."
        )
        super().__init__(name, params=[*click_options(self._parameters.values()), config], **rest)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the valid words; problems are reported later, with those of the values."""
        if ctx.resilient_parsing:  # shell completion: the command line is not complete yet
            return super().parse_args(ctx, args)
        found = prevalidate(args, self.get_params(ctx), group=isinstance(self, click.Group))
        found.excused = {name.replace(NESTING, ".") for name in found.excused}
        App.of(ctx).prevalidated = found
        if not found.problems:
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, found.words)
        except click.UsageError as error:
            raise InputErrors([*found.problems, UsageProblem(usage(error))]) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        title_of = {parameter.name: parameter.title for parameter in self._parameters.values()}
        rows: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                rows.setdefault(title_of.get(option.name or "", "Other"), []).append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


def typed(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values from the command line: click's options have no defaults here."""
    return {
        name.replace(NESTING, "."): value
        for name, value in values.items()
        if value is not None and value != ()
    }


def _click_option(parameter: Parameter) -> click.Option:
    long = f"{parameter.flag}/{parameter.off_flag}" if parameter.off_flag else str(parameter.flag)
    flags = (parameter.short_flag, long, parameter.other_flag, parameter.name)
    names = [name for name in flags if name]
    words = f"{parameter.field.description} [{parameter.default_words}]"
    if parameter.kind is Kind.LIST:
        return click.Option(
            names, metavar=parameter.metavar, help=words, multiple=True, default=None
        )
    if parameter.off_flag:
        return click.Option(names, default=None, help=words)
    return click.Option(
        names, metavar=parameter.metavar, help=words, shell_complete=_completion(parameter)
    )


def _completion(parameter: Parameter) -> Callable[..., list[CompletionItem]]:
    """Return the shell completion of a value: its choices, or file names."""

    def complete(
        ctx: click.Context,  # noqa: ARG001 - click's signature
        option: click.Parameter,  # noqa: ARG001
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if parameter.kind is Kind.PATH:
            return [CompletionItem(incomplete, type="file")]
        return [
            CompletionItem(choice) for choice in parameter.choices if choice.startswith(incomplete)
        ]

    return complete


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of a field's annotation, and its choices if it is a Literal."""
    inner = next(_without_none(annotation), None)
    if get_origin(inner) is Annotated:
        return _kind(get_args(inner)[0])
    if get_origin(inner) is tuple:
        return Kind.LIST, ()
    if get_origin(inner) is Literal and all(isinstance(choice, bool) for choice in get_args(inner)):
        return Kind.SWITCH, ()
    if get_origin(inner) is Literal:
        return Kind.TEXT, get_args(inner)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return Kind.MAPPING, ()
    kinds = {
        str: Kind.TEXT,
        Path: Kind.PATH,
        int: Kind.INTEGER,
        float: Kind.NUMBER,
        bool: Kind.SWITCH,
    }
    return kinds.get(inner, Kind.ANY), ()


def _without_none(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        yield from (argument for argument in get_args(annotation) if argument is not type(None))
    else:
        yield annotation
