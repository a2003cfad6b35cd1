"""The sources of values: command line over environment over config file over the model's default.

All values are validated together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from cli.app import App, Prevalidated
from cli.failure import InputErrors
from cli.params.commands import CommandParams
from cli.params.groups import StartGroup
from cli.params.messages import reason
from cli.params.options import VARIABLE_PREFIX, Kind, model_of, parameters_of, typed
from cli.params.raw import Origin, RawParams, RawValue
from cli.params.stage_group import StageGroup
from pipeline.errors import InputError
from pipeline.families import SamplingParams

CONFIG = "config"
SWITCHES = {"true": True, "false": False}
Checks = Mapping[str, Callable[[Any], object]]
"""By group: what else is checked of a valid group. Raises ``InputError``."""
Command = TypeVar("Command", bound=CommandParams)


def load(ctx: click.Context, command: type[Command], checks: Checks | None = None) -> Command:
    """Return the parameters of the command that ``ctx`` is for.

    Raises ``InputErrors`` with everything that is wrong with them.
    """
    return validate(collect_from(ctx, command), command, checks)


def collect_from(ctx: click.Context, command: type[CommandParams]) -> RawParams:
    """Collect the values of a command from its command line, the environment and a config file."""
    known = parameters_of(command).keys() | {CONFIG}
    flags = {key: value for key, value in typed(ctx.params).items() if key in known}
    return collect(flags, os.environ, command, App.of(ctx).prevalidated)


def collect(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    command: type[CommandParams],
    prevalidated: Prevalidated | None = None,
) -> RawParams:
    """Collect the values of a command's parameters, and the problems of doing so.

    ``flags`` holds the values from the command line by key, the config file's path among them.
    """
    parameters = parameters_of(command)
    raw = RawParams()
    if prevalidated:
        raw.problems += prevalidated.problems
        raw.excused |= prevalidated.excused
    # An empty variable is a common way to unset one.
    variables = {key: environment.get(p.variable or "", "") for key, p in parameters.items()}
    file = flags.get(CONFIG) or environment.get(VARIABLE_PREFIX + CONFIG.upper())
    if file:
        # Here, because most runs have no config file and do not need the YAML package.
        from cli.params.file_values import add_file

        add_file(raw, Path(str(file)), parameters)
    for key, text in variables.items():
        if text:
            value = (
                SWITCHES.get(text.lower(), text) if parameters[key].kind is Kind.SWITCH else text
            )
            place = f" (from {parameters[key].variable})"
            raw.values[key] = RawValue(value, Origin.ENVIRONMENT, place)
    raw.values |= {
        key: RawValue(value, Origin.COMMAND_LINE) for key, value in flags.items() if key != CONFIG
    }
    return raw


def validate(raw: RawParams, command: type[Command], checks: Checks | None = None) -> Command:
    """Return the validated parameters of a command.

    Raises ``InputErrors`` with everything that is wrong with them, and with how they were written.
    """
    groups = {name: model_of(field) for name, field in command.model_fields.items()}
    return command.model_validate(validate_groups(raw, groups, checks))


def validate_groups(
    raw: RawParams, models: Mapping[str, type[BaseModel]], checks: Checks | None = None
) -> dict[str, BaseModel]:
    """Return the validated groups by name. Raises ``InputErrors`` as `validate` does."""
    errors = list(raw.problems)
    groups: dict[str, BaseModel] = {}
    # A key that two groups have belongs to the last one, as in `parameters_of`.
    owners = {
        field.alias or key: name
        for name, model in models.items()
        for key, field in model.model_fields.items()
    }
    for name, model in models.items():
        keys = [key for key, owner in owners.items() if owner == name]
        try:
            groups[name] = model.model_validate(_nested(raw.values, keys))
        except ValidationError as error:
            details = error.errors(include_url=False)
            reported = [
                d for d in details if not (d["type"] == "missing" and d["loc"][0] in raw.excused)
            ]
            errors += [InputError(*reason(detail, raw.values)) for detail in reported]
    for name, check in (checks or {}).items():
        try:
            if name in groups:
                check(groups[name])
        except InputError as error:
            errors.append(error)
    errors += _contradictions(raw.values, requests=SamplingParams in models.values())
    if errors:
        raise InputErrors(errors)
    return groups


def unused_with_url(values: Mapping[str, RawValue], *, requests: bool) -> list[str]:
    """Return the keys that have a value, and no effect on a Triton that runs already.

    ``requests``: the command sends requests, which take some of the stages' options.
    """
    unused = StartGroup.model_fields.keys() | StageGroup.model_fields.keys()
    if requests:
        unused -= SamplingParams.model_fields.keys()
    return [key for key in values if key.partition(".")[0] in unused]


def _nested(values: Mapping[str, RawValue], keys: Iterable[str]) -> dict[str, object]:
    """Return the values of ``keys``, with those called ``outer.inner`` as mappings."""
    nested: dict[str, object] = {key: values[key].value for key in keys if key in values}
    inner = [(key, *key.split(".", 1)) for key in values if "." in key]
    for key, outer, name in inner:
        if outer in keys:
            mapping = nested.setdefault(outer, {})
            assert isinstance(mapping, dict)
            mapping[name] = values[key].value
    return nested


def _contradictions(values: Mapping[str, RawValue], *, requests: bool) -> list[InputError]:
    if "triton_url" not in values:
        return []
    return [
        InputError(
            key, "not allowed with --triton-url: the running Triton was started with its own value"
        )
        for key in unused_with_url(values, requests=requests)
        if values[key].origin is Origin.COMMAND_LINE
    ]
