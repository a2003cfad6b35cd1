"""The value of every parameter of a command, and which source it comes from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from cli.params.options import Kind, Parameter, parameters_of
from cli.params.raw import Origin, RawParams
from cli.params.sources import check_groups
from pipeline.families import SamplingParams

REQUIRED = "required, not given"
OF_TRITON = "the running Triton's"
OF_MODEL = "the model"


@dataclass(frozen=True)
class Used:
    """A parameter's value, and where it comes from in words. A ``secret`` is not shown."""

    key: str
    value: object
    source: str
    secret: bool = False

    @property
    def shown(self) -> object:
        return "(not shown)" if self.secret and self.value is not None else self.value


def used_values(raw: RawParams, groups: Mapping[str, type[BaseModel]]) -> list[Used]:
    """Raises ``InputErrors`` with everything that is wrong, but for what is only missing as yet."""
    checked = check_groups(raw, {name: _complete(model) for name, model in groups.items()})
    of_model = _of_model(checked)
    return [_used(parameter, raw, checked, of_model) for parameter in _single(groups)]


def _single(groups: Mapping[str, type[BaseModel]]) -> Iterator[Parameter]:
    return (
        parameter
        for parameter in parameters_of(groups).values()
        if parameter.kind is not Kind.MAPPING
    )


def _used(
    parameter: Parameter,
    raw: RawParams,
    checked: Mapping[str, BaseModel],
    of_model: Mapping[str, object] | None,
) -> Used:
    key, secret = parameter.key, not parameter.field.repr
    value = _value(checked[parameter.group], parameter)
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
    given = raw.values[parameter.key]
    if given.origin is Origin.COMMAND_LINE:
        return str(parameter.flag)
    if given.origin is Origin.ENVIRONMENT:
        return str(parameter.variable)
    return given.place.strip(" ()").removeprefix("in ")


def _value(group: BaseModel, parameter: Parameter) -> object:
    """Of a nested model that was left out: its own default."""
    *outer, name = parameter.key.split(".")
    for part in outer:
        group = getattr(group, part)
        if group is None:
            return parameter.field.get_default()
    names = {field.alias or name: name for name, field in type(group).model_fields.items()}
    return getattr(group, names[name])


def _of_model(checked: Mapping[str, BaseModel]) -> Mapping[str, object] | None:
    """What the checkpoint makes of the parameters that were left open; None where it is not a
    folder here.

    Raises ``InputErrors`` for what it cannot make, ``CheckpointError`` where it is broken.
    """
    sampling, server = checked.get("sampling"), checked.get("server")
    if not isinstance(sampling, SamplingParams) or getattr(server, "triton_url", None):
        return None
    from cli.run.checkpoints import bundled_checkpoint, resolve
    from pipeline.checkpoint.folder import Checkpoint

    path: Path = getattr(server, "model_path", None) or bundled_checkpoint()
    if not path.expanduser().is_dir():
        return None
    info = Checkpoint.open(path).info
    request = resolve(info, sampling)
    return {
        **request.model_dump(exclude={"seed"}),
        "negative_prompt": info.negative_prompt(sampling),
    }


def _complete(model: type[BaseModel]) -> type[BaseModel]:
    """``model`` with nothing required: what is missing as yet can be given later."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            optional = copy.copy(field)
            optional.default = None
            fields[name] = (field.annotation, optional)
    return create_model(model.__name__, __base__=model, **fields) if fields else model
