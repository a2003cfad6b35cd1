"""Read a Diffusers checkpoint folder: recognise its family and check that it is complete.

No weights are loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.checkpoint.config_rules import (
    check_class,
    check_config,
    check_image_processor,
    check_schedule,
    check_tokenizer_config,
)
from pipeline.checkpoint.folder_kinds import LORA, kind_of_file, kind_of_names
from pipeline.checkpoint.geometry import model_info
from pipeline.checkpoint.regular_files import read_json, require_own_files
from pipeline.checkpoint.step_cache_table import find_table
from pipeline.checkpoint.weight_files import WEIGHT_NAMES, read_headers
from pipeline.errors import CheckpointError, InputError
from pipeline.families import Defaults, Family, ModelInfo, family_of
from pipeline.families.parts import VAE_ENCODER
from pipeline.families.step_cache.table import StepCacheTable
from pipeline.validation import first_problem

DEFAULTS_FILE = "triton_video.json"
CONFIG_NAMES = {
    "tokenizer": "tokenizer_config.json",
    "tokenizer_2": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "image_processor": "preprocessor_config.json",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder that was checked and is complete. ``configs`` and ``classes`` map each
    component to its config and its class.
    """

    path: Path
    family: Family
    configs: dict[str, dict[str, Any]]
    classes: dict[str, str]
    info: ModelInfo
    boundary_ratio: float = 0.0
    step_cache: StepCacheTable | None = None

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read and check the folder ``path``.

        Raises ``CheckpointError``, which names the invalid file.
        """
        path = path.expanduser().resolve()
        index = read_index(path)
        family = family_of(index)
        require_own_files(path, family.components)
        classes = {name: _component_class(index, name, family) for name in family.components}
        files = {
            name: path / name / CONFIG_NAMES.get(name, "config.json") for name in family.components
        }
        configs = {name: read_json(file) for name, file in files.items()}
        defaults = _defaults(path, family)
        tokenizers = {part.preprocessor for part in family.text_encoders}
        for name, file in files.items():
            check_config(file, configs[name], has_weights=name in WEIGHT_NAMES)
            if name in WEIGHT_NAMES:
                check_class(file, configs[name], classes[name])
            if name in tokenizers:
                check_tokenizer_config(files[name], configs[name], family.components[name])
            _require_no_adapter(path / name)
        if not defaults.denoising_timesteps:
            check_schedule(files["scheduler"], classes["scheduler"], configs["scheduler"])
        if "image_processor" in files:
            check_image_processor(files["image_processor"], configs["image_processor"])
        for name in family.components:
            if stem := WEIGHT_NAMES.get(name):
                read_headers(path / name, stem)
        table = None if defaults.denoising_timesteps else find_table(path, family, configs)
        ratio = _boundary_ratio(index)
        info = model_info(path, family, configs, defaults).model_copy(
            update={"step_cache": table is not None, "boundary_ratio": ratio or None}
        )
        return cls(path, family, configs, classes, info, ratio, table)

    def with_vae_encoder(self) -> Checkpoint:
        """Return the checkpoint of a model that has the VAE's encoder, and so edits videos.

        Raises ``InputError`` for a family that has no use for it.
        """
        family = self.family.with_vae_encoder() if self.family.edits_with_encoder else self.family
        if VAE_ENCODER not in family.parts:
            raise InputError(
                "vae_config.load_encoder", f"not supported; {family.name} edits no videos"
            )
        info = self.info.model_copy(update={"edits": family.edits})
        return replace(self, family=family, info=info)

    @property
    def boundary_timestep(self) -> float:
        """The timestep below which the second expert denoises; 0 with a single transformer."""
        return self.boundary_ratio * self.configs["scheduler"].get("num_train_timesteps", 1000)


def read_index(path: Path) -> dict[str, Any]:
    """Return the contents of ``model_index.json`` in the folder ``path``.

    Raises ``CheckpointError``, which names what ``path`` holds instead.
    """
    if not path.is_dir():
        kind = kind_of_file(path) if path.is_file() else None
        raise CheckpointError(
            f"{path} is not a folder; a Diffusers checkpoint folder is "
            f"needed{f', but {kind}' if kind else ''}"
        )
    index = path / "model_index.json"
    if not os.path.lexists(index):
        kind = kind_of_names(file.name for file in path.iterdir())
        raise CheckpointError(f"{index} is missing{f': {kind}' if kind else ''}")
    return read_json(index)


def _require_no_adapter(folder: Path) -> None:
    """Raise ``CheckpointError`` for an adapter in ``folder``: transformers would load it, and the
    base model that it names, instead of the weights.
    """
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        raise CheckpointError(f"{adapter} says that the folder holds {LORA}")


def _component_class(index: dict[str, Any], name: str, family: Family) -> str:
    entry = index.get(name)
    found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if found not in family.components[name]:
        allowed = " or ".join(family.components[name])
        raise CheckpointError(
            f"model_index.json: {name} is {found!r}, but {family.name} needs {allowed}"
        )
    return str(found)


def _boundary_ratio(index: dict[str, Any]) -> float:
    ratio = index.get("boundary_ratio") or 0.0
    if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise CheckpointError(
            f"model_index.json: boundary_ratio is {ratio!r}, but should be from 0 to 1"
        )
    return float(ratio)


def _defaults(path: Path, family: Family) -> Defaults:
    """Return the family's defaults, overridden by the checkpoint's ``triton_video.json``."""
    file = path / DEFAULTS_FILE
    if not file.exists():
        return family.defaults
    try:
        return Defaults.model_validate({**family.defaults.model_dump(), **read_json(file)})
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_problem(error)}") from None
