"""One parameter as all its front ends see it, and the click options made from the models'
fields.
"""

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

from cli.failure import InputErrors, UsageProblem, usage
from cli.params.groups import GROUPS, SHORT_FLAGS, TITLES
from cli.params.preparse import Sifted, sift

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE_PREFIX = "TRITON_VIDEO_"
NESTING = "__"
# the key in click's `Context.meta` of what the command line holds beside what click can read
SIFTED = "sifted"
DEFAULTS = {"sampling": "the model's", "bounds": "the device's"}  # what None means in a group


class Kind(Enum):
    """What sort of value a parameter takes: the metavar of its flag, and the words of its
    errors.
    """

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
    """A field of one of the models in `cli.params.groups`. ``key`` is its name in config files;
    that of a field of a nested model is ``outer.inner``, and stands in a mapping there.
    """

    key: str
    group: str
    field: FieldInfo
    kind: Kind
    choices: tuple[str, ...]

    @property
    def flag(self) -> str | None:
        """``--num-frames``. None for structured values, which only a config file can hold."""
        return None if self.kind in (Kind.ANY, Kind.MAPPING) else "--" + self.key.replace("_", "-")

    @property
    def name(self) -> str:
        """What click calls it, which has to be a word of Python's."""
        return self.key.replace(".", NESTING)

    @property
    def off_flag(self) -> str | None:
        return f"--no-{self.key.replace('_', '-')}" if self.kind is Kind.SWITCH else None

    @property
    def short_flag(self) -> str | None:
        return SHORT_FLAGS.get(self.key)

    @property
    def variable(self) -> str | None:
        """The environment variable; None where there is no flag."""
        return None if self.flag is None else VARIABLE_PREFIX + self.key.replace(".", "_").upper()

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
            return "random" if self.key == "seed" else DEFAULTS.get(self.group, "none")
        return {True: "on", False: "off"}[value] if self.kind is Kind.SWITCH else str(value)


def parameters_of(groups: Mapping[str, type[BaseModel]] = GROUPS) -> dict[str, Parameter]:
    """Every parameter by its key, in the order of declaration."""
    found = {}
    for group, model in groups.items():
        for parameter in _fields(model, group):
            found[parameter.key] = parameter
    return found


def _fields(model: type[BaseModel], group: str, outer: str = "") -> Iterator[Parameter]:
    for name, field in model.model_fields.items():
        key = f"{outer}{field.alias or name}"
        kind, choices = _kind(field.annotation)
        yield Parameter(key, group, field, kind, choices)
        if kind is Kind.MAPPING:
            yield from _fields(next(_without_none(field.annotation)), group, f"{key}.")


def click_options(parameters: Iterable[Parameter]) -> list[click.Option]:
    """An option per parameter that has a flag. Values stay text: the models convert them and
    judge all at once.
    """
    return [_click_option(parameter) for parameter in parameters if parameter.flag]


class GroupedCommand(click.Command):
    """A command made from groups of parameters and ``--config``; its help lists them under the
    groups' titles.
    """

    def __init__(self, name: str, groups: Mapping[str, type[BaseModel]], **rest: Any):
        self._parameters = parameters_of(groups)
        config = click.Option(
            ["--config"], metavar="FILE", help="JSON or YAML file with any of these parameters."
        )
        super().__init__(name, params=[*click_options(self._parameters.values()), config], **rest)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leaves what is wrong to whoever checks the values, to be told with what is wrong with
        those.
        """
        if ctx.resilient_parsing:  # a shell asks what may come next: the line is not whole yet
            return super().parse_args(ctx, args)
        ctx.meta[SIFTED] = sifted = sift(
            args, self.get_params(ctx), group=isinstance(self, click.Group)
        )
        if not sifted.problems:
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, sifted.words)
        except click.UsageError as error:
            raise InputErrors([*sifted.problems, UsageProblem(usage(error))]) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        group_of = {parameter.name: parameter.group for parameter in self._parameters.values()}
        rows: dict[str, list[tuple[str, str]]] = {
            title: [] for title in (*TITLES.values(), "Other")
        }
        for option in self.get_params(ctx):
            if record := option.get_help_record(ctx):
                rows[TITLES.get(group_of.get(option.name or "", ""), "Other")].append(record)
        for title, records in rows.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def typed(values: Mapping[str, object]) -> dict[str, object]:
    """Of the values that click hands over, those that were typed: options have no other default
    here.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    return {name.replace(NESTING, "."): value for name, value in given.items()}


def sifted_of(ctx: click.Context) -> Sifted:
    """What `GroupedCommand` found in the command line of ``ctx``."""
    sifted: Sifted = ctx.meta[SIFTED]
    sifted.meant = {name.replace(NESTING, ".") for name in sifted.meant}
    return sifted


def _click_option(parameter: Parameter) -> click.Option:
    long = f"{parameter.flag}/{parameter.off_flag}" if parameter.off_flag else str(parameter.flag)
    names = [name for name in (parameter.short_flag, long, parameter.name) if name]
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
    """What a shell may offer for the value: one of the choices, or the name of a file."""

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
    """The kind of a field's annotation, and its choices if it is a Literal."""
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
