"""Where values come from: command line over environment over config file over model default.
Judged all at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import click
from pydantic import BaseModel, ValidationError

from cli.failure import InputErrors
from cli.params.groups import (
    GROUPS,
    GenerateParams,
    ModelParams,
    OutputParams,
    ReferenceParams,
    ReportParams,
    ServerParams,
)
from cli.params.messages import reason
from cli.params.options import VARIABLE_PREFIX, Kind, parameters_of, sifted_of, typed
from cli.params.preparse import Sifted
from cli.params.raw import Origin, RawParams, RawValue
from pipeline.errors import InputError
from pipeline.families import SamplingParams

CONFIG = "config"
SWITCHES = {"true": True, "false": False}


def heard(
    ctx: click.Context, values: Mapping[str, object], groups: Mapping[str, type[BaseModel]]
) -> RawParams:
    """What the command of ``ctx`` was told, by its command line (``values``), the environment
    and a file.
    """
    return gather(typed(values), os.environ, groups, sifted_of(ctx))


def gather(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    groups: Mapping[str, type[BaseModel]] = GROUPS,
    sifted: Sifted | None = None,
) -> RawParams:
    """What was said about each parameter; ``flags`` holds what was typed, and ``config`` if that
    was.
    """
    parameters = parameters_of(groups)
    raw = RawParams()
    if sifted:
        raw.problems += sifted.problems
        raw.excused |= sifted.meant
    # An empty variable is a common way to unset one.
    variables = {key: environment.get(p.variable or "", "") for key, p in parameters.items()}
    file = flags.get(CONFIG) or environment.get(VARIABLE_PREFIX + CONFIG.upper())
    if file:
        # Here, since most runs have no config file and need no YAML.
        from cli.params.file_values import add_file

        add_file(raw, Path(str(file)), parameters)
    for key, text in variables.items():
        if text:
            value = (
                SWITCHES.get(text.lower(), text) if parameters[key].kind is Kind.SWITCH else text
            )
            raw.values[key] = RawValue(
                value, Origin.ENVIRONMENT, f" (from {parameters[key].variable})"
            )
    raw.values |= {
        key: RawValue(value, Origin.COMMAND_LINE) for key, value in flags.items() if key != CONFIG
    }
    return raw


def check(raw: RawParams) -> GenerateParams:
    """The parameters of ``generate``. Raises ``InputErrors`` with everything that is wrong with
    them.
    """
    groups = check_groups(raw, GROUPS)
    return GenerateParams(
        sampling=cast(SamplingParams, groups["sampling"]),
        reference=cast(ReferenceParams, groups["reference"]),
        server=cast(ServerParams, groups["server"]),
        output=cast(OutputParams, groups["output"]),
        report=cast(ReportParams, groups["report"]),
    )


def check_groups(
    raw: RawParams,
    models: Mapping[str, type[BaseModel]],
    more: Mapping[str, Callable[[Any], object]] | None = None,
) -> dict[str, BaseModel]:
    """The typed parameters, group by group. ``more`` looks at groups whose values are right, each
    by itself.

    Raises ``InputErrors`` with everything that was wrong with them and with how they were written.
    """
    errors = list(raw.problems)
    groups: dict[str, BaseModel] = {}
    for name, model in models.items():
        keys = [field.alias or key for key, field in model.model_fields.items()]
        try:
            groups[name] = model.model_validate(_nested(raw.values, keys))
        except ValidationError as error:
            details = error.errors(include_url=False)
            known = [
                d for d in details if not (d["type"] == "missing" and d["loc"][0] in raw.excused)
            ]
            errors += [InputError(*reason(detail, raw.values)) for detail in known]
    for name, look in (more or {}).items():
        try:
            if name in groups:
                look(groups[name])
        except InputError as error:
            errors.append(error)
    errors += _contradictions(raw.values)
    if errors:
        raise InputErrors(errors)
    return groups


def unused_with_url(given: Mapping[str, RawValue]) -> list[str]:
    """The keys that were given and say nothing to a Triton that already runs."""
    return [key for key in given if key.partition(".")[0] in ModelParams.model_fields]


def _nested(given: Mapping[str, RawValue], keys: Iterable[str]) -> dict[str, object]:
    """The values of ``keys``, those called ``outer.inner`` as mappings."""
    values: dict[str, object] = {key: given[key].value for key in keys if key in given}
    inner = [(key, *key.split(".", 1)) for key in given if "." in key]
    for key, outer, name in inner:
        if outer in keys:
            mapping = values.setdefault(outer, {})
            assert isinstance(mapping, dict)
            mapping[name] = given[key].value
    return values


def _contradictions(given: Mapping[str, RawValue]) -> list[InputError]:
    errors: list[InputError] = []
    if "triton_url" in given:
        typed = [key for key in unused_with_url(given) if given[key].origin is Origin.COMMAND_LINE]
        errors += [
            InputError(
                key, "not with --triton-url: the running Triton was started with a value of its own"
            )
            for key in typed
        ]
    return errors
