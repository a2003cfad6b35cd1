"""The value of every parameter of a command, and its source."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from cli.params.commands import CommandParams, GenerateParams
from cli.params.options import Kind, Parameter, model_of, parameters_of
from cli.params.raw import Origin, RawParams
from cli.params.sources import validate_groups
from cli.params.stage_group import StageGroup
from cli.run.checkpoints import bundled_checkpoint, resolve
from pipeline.checkpoint.folder import Checkpoint
from pipeline.families import SamplingParams

REQUIRED = "required, not given"
OF_TRITON = "the running Triton's"
OF_MODEL = "the model"


@dataclass(frozen=True)
class Used:
    """A parameter's value and the name of its source. A ``secret`` is not shown."""

    key: str
    value: object
    source: str
    secret: bool = False

    @property
    def shown(self) -> object:
        return "(not shown)" if self.secret and self.value is not None else self.value


def used_values(raw: RawParams, command: type[CommandParams]) -> list[Used]:
    """Return every parameter's value; a required one may still be missing.

    Raises ``InputErrors`` with everything else that is wrong.
    """
    models = {name: _optional(model_of(field)) for name, field in command.model_fields.items()}
    groups = validate_groups(raw, models)
    parameters = [p for p in parameters_of(command).values() if p.kind is not Kind.MAPPING]
    values = {parameter.key: _value(groups[parameter.group], parameter) for parameter in parameters}
    of_model = _of_model(values) if command is GenerateParams else None
    return [_used(parameter, raw, values[parameter.key], of_model) for parameter in parameters]


def _used(
    parameter: Parameter, raw: RawParams, value: object, of_model: Mapping[str, object] | None
) -> Used:
    key, secret = parameter.key, not parameter.field.repr
    if key in raw.values:
        return Used(key, value, _source(parameter, raw), secret)
    if parameter.field.is_required():
        return Used(key, None, REQUIRED)
    if parameter.group == "sampling" and value is None:
        if of_model is None:
            return Used(key, None, OF_TRITON if "triton_url" in raw.values else OF_MODEL)
        return Used(key, of_model.get(key), "random" if key == "seed" else OF_MODEL)
    return Used(key, value, "default", secret)


def _source(parameter: Parameter, raw: RawParams) -> str:
    value = raw.values[parameter.key]
    if value.origin is Origin.COMMAND_LINE:
        return str(parameter.flag)
    if value.origin is Origin.ENVIRONMENT:
        return str(parameter.variable)
    return value.place.strip(" ()").removeprefix("in ")


def _value(group: BaseModel, parameter: Parameter) -> object:
    """Return the parameter's value in ``group``; a missing nested model has its defaults."""
    *outer, name = parameter.key.split(".")
    for part in outer:
        group = getattr(group, part)
        if group is None:
            return parameter.field.get_default()
    names = {field.alias or name: name for name, field in type(group).model_fields.items()}
    return getattr(group, names[name])


def _of_model(values: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the model's values for open sampling parameters; None if it is not on this machine.

    Raises ``InputErrors`` for values that are not valid for the model, and ``CheckpointError``
    for a checkpoint that is broken.
    """
    if values["triton_url"]:
        return None
    path = Path(str(values["model_path"] or bundled_checkpoint())).expanduser()
    if not path.is_dir():
        return None
    own = SamplingParams.model_fields.keys() - StageGroup.model_fields.keys()
    given = {name: values[name] for name in own if values[name] is not None}
    sampling = SamplingParams.model_validate({"prompt": "-", **given})
    info = Checkpoint.open(path).info
    return {
        **resolve(info, sampling).model_dump(exclude={"seed"}),
        "negative_prompt": info.negative_prompt(sampling),
    }


def _optional(model: type[BaseModel]) -> type[BaseModel]:
    """Return ``model`` with no required field."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            optional = copy.copy(field)
            optional.default = None
            fields[name] = (field.annotation, optional)
    return create_model(model.__name__, __base__=model, **fields) if fields else model
