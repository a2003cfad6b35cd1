"""The LoRAs of a command: found, checked against the checkpoint, and described in the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.params.lora import LoraArgument
from cli.params.stage_group import StageGroup
from pipeline.checkpoint.folder import DEFAULTS_FILE, Checkpoint
from pipeline.checkpoint.regular_files import read_json
from pipeline.errors import CheckpointError, InputError
from pipeline.families import ModelInfo, SamplingParams
from pipeline.families.lora import LoraFile, LoraPreset, Loras
from pipeline.lora.adapter import open_adapter
from pipeline.lora.sources import loras_in
from pipeline.validation import first_problem


def lora_settings(checkpoint: Checkpoint, stages: StageGroup) -> dict[str, Any]:
    """Return the fields of `StageSettings` about LoRAs, from those that ``stages`` names.

    Raises ``InputError`` for names that do not fit together, and ``CheckpointError`` for a file
    that is no LoRA of this checkpoint.
    """
    paths = loras_in(stages.lora_path) if stages.lora_path else {}
    arguments = [LoraArgument.parse(text) for text in stages.lora]
    for each in arguments:
        if each.path is not None:
            if each.name in paths:
                raise InputError("lora", f"{each.name!r} names two files; rename one of them")
            paths[each.name] = each.path.absolute()
    scales = {each.name: each.scale for each in arguments if each.scale is not None}
    loras = tuple(
        LoraFile(
            name=name,
            scale=scales.get(name, 1.0),
            preset=_preset(path, checkpoint.info),
            path=str(path),
            elements=open_adapter(path, checkpoint).elements,
        )
        for name, path in paths.items()
    )
    applied, fixed = tuple(each.use for each in arguments), stages.lora_path is None
    Loras.of(loras, applied, fixed=fixed, most=stages.max_loras).chosen(None)
    return {"loras": loras, "lora": applied, "lora_fixed": fixed and bool(applied)}


def with_loras(checkpoint: Checkpoint, stages: StageGroup) -> Checkpoint:
    """Return ``checkpoint`` with the LoRAs of ``stages`` in its description: a request may use them
    and has the defaults that they bring. Raises the errors of `lora_settings`.
    """
    found = lora_settings(checkpoint, stages)
    loras = Loras.of(
        found["loras"], found["lora"], fixed=found["lora_fixed"], most=stages.max_loras
    )
    return replace(checkpoint, info=checkpoint.info.model_copy(update={"loras": loras}))


def with_uses(sampling: SamplingParams, stages: StageGroup) -> SamplingParams:
    """Return the parameters of a request to a running Triton, with the names of its LoRAs.

    Raises ``InputError`` for the path of a LoRA.
    """
    if not stages.lora:
        return sampling
    arguments = [LoraArgument.parse(text) for text in stages.lora]
    for each in arguments:
        if each.path is not None:
            raise InputError(
                "lora",
                f"{each.name}={each.path} is not allowed with --triton-url; name a LoRA that the "
                "running Triton has",
            )
    return sampling.model_copy(update={"lora": tuple(each.use for each in arguments)})


def _preset(path: Path, info: ModelInfo) -> LoraPreset:
    """Return the default values that a LoRA's folder brings. Raises ``CheckpointError`` for values
    that are not valid for the model.
    """
    file = path / DEFAULTS_FILE
    if not path.is_dir() or not file.exists():
        return LoraPreset()
    try:
        preset = LoraPreset.model_validate(read_json(file))
        values = preset.model_dump(exclude_none=True)
        image = (info.defaults.width, info.defaults.height) if info.takes_image else None
        info.resolve(SamplingParams(prompt="-", **values), image=image)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_problem(error)}") from None
    except InputError as error:
        raise CheckpointError(f"{file}: {error}") from None
    return preset
