"""Where values come from: command line over environment over config file over model default. Judged all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ValidationError

from cli.failure import InputErrors, nearest
from cli.options import VARIABLE_PREFIX, Kind, Parameter, parameters_of
from cli.parameters import (
    GROUPS,
    GenerateParams,
    ModelParams,
    OutputParams,
    ReferenceParams,
    ReportParams,
    ServerParams,
)
from cli.wording import describe, reason
from pipeline.errors import InputError
from pipeline.spec import SamplingParams

CONFIG = "config"


class Origin(IntEnum):
    """The sources, the weakest first."""

    CONFIG_FILE = 1
    ENVIRONMENT = 2
    COMMAND_LINE = 3


@dataclass(frozen=True)
class Given:
    """A value, where it comes from, and the words for that in an error message (empty for the command line)."""

    value: object
    origin: Origin
    place: str = ""


def gather(
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    groups: Mapping[str, type[BaseModel]] = GROUPS,
) -> dict[str, Given]:
    """What was said about each parameter, by key; ``flags`` holds what was typed, and ``config`` if that was.

    Raises ``InputErrors`` with every key of the config file that is unknown or of the wrong type.
    """
    parameters = parameters_of(groups)
    # An empty variable is a common way to unset one.
    variables = {key: environment.get(p.variable or "", "") for key, p in parameters.items()}
    file = flags.get(CONFIG) or environment.get(VARIABLE_PREFIX + CONFIG.upper())
    given = _from_config(Path(str(file)), parameters) if file else {}
    for key, text in variables.items():
        if text:
            given[key] = Given(text, Origin.ENVIRONMENT, f" (from {parameters[key].variable})")
    given |= {key: Given(value, Origin.COMMAND_LINE) for key, value in flags.items() if key != CONFIG}
    return given


def check(given: Mapping[str, Given]) -> GenerateParams:
    """The parameters of ``generate``. Raises ``InputErrors`` with everything that is wrong with them."""
    groups = check_groups(given, GROUPS)
    return GenerateParams(
        sampling=cast(SamplingParams, groups["sampling"]),
        reference=cast(ReferenceParams, groups["reference"]),
        server=cast(ServerParams, groups["server"]),
        output=cast(OutputParams, groups["output"]),
        report=cast(ReportParams, groups["report"]),
    )


def check_groups(given: Mapping[str, Given], models: Mapping[str, type[BaseModel]]) -> dict[str, BaseModel]:
    """The typed parameters, group by group. Raises ``InputErrors`` with everything that is wrong with them."""
    errors: list[InputError] = []
    groups: dict[str, BaseModel] = {}
    for name, model in models.items():
        keys = [field.alias or key for key, field in model.model_fields.items()]
        try:
            groups[name] = model.model_validate({key: given[key].value for key in keys if key in given})
        except ValidationError as error:
            errors += [InputError(*reason(detail, given)) for detail in error.errors(include_url=False)]
    errors += _contradictions(given)
    if errors:
        raise InputErrors(errors)
    return groups


def unused_with_url(given: Mapping[str, Given]) -> list[str]:
    """The keys that were given and say nothing to a Triton that already runs."""
    return [key for key in ModelParams.model_fields if key in given]


def _from_config(path: Path, parameters: Mapping[str, Parameter]) -> dict[str, Given]:
    # Here, since most runs have no config file and need no YAML.
    from cli.config_file import read_config

    given: dict[str, Given] = {}
    errors: list[InputError] = []
    for key, value in read_config(path).items():
        if key not in parameters:
            errors.append(InputError(key, f"unknown key in {path}{_hint(key, value, parameters)}"))
        elif not _fits(parameters[key].kind, value):
            words = parameters[key].kind.words
            errors.append(InputError(key, f"should be {words}, not {describe(value)} (in {path})"))
        elif value is not None:
            given[key] = Given(value, Origin.CONFIG_FILE, f" (in {path})")
    if errors:
        raise InputErrors(errors)
    return given


def _hint(key: str, value: object, parameters: Mapping[str, Parameter]) -> str:
    if isinstance(value, dict):
        inner = next((str(name) for name in value if str(name) in parameters), None)
        if inner:
            return f"; parameters are not nested, so {inner} belongs at the top"
    near = nearest(key.replace("-", "_").lower(), parameters)
    return f"; did you mean {near}?" if near else ""


def _fits(kind: Kind, value: object) -> bool:
    """Whether a config value has the type of its parameter; null is "not given", whatever the type."""
    if value is None or kind is Kind.ANY:
        return True
    if kind is Kind.SWITCH or isinstance(value, bool):
        return kind is Kind.SWITCH and isinstance(value, bool)
    if kind is Kind.LIST and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    types = {Kind.INTEGER: int, Kind.NUMBER: (int, float)}
    return isinstance(value, types.get(kind, str))


def _contradictions(given: Mapping[str, Given]) -> list[InputError]:
    errors: list[InputError] = []
    if "triton_url" in given:
        typed = [key for key in unused_with_url(given) if given[key].origin is Origin.COMMAND_LINE]
        errors += [
            InputError(key, "not with --triton-url: the running Triton was started with a value of its own")
            for key in typed
        ]
    return errors
