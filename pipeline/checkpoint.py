"""Reading a Diffusers checkpoint folder without loading any weight: what it is, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import CheckpointError
from pipeline.geometry import model_info
from pipeline.safetensors_header import check_safetensors
from pipeline.spec import Defaults, Family, ModelInfo, family_of

DEFAULTS_FILE = "triton_video.json"
CONFIG_NAMES = {
    "tokenizer": "tokenizer_config.json",
    "tokenizer_2": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "image_processor": "preprocessor_config.json",
}
WEIGHT_NAMES = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "image_encoder": "model",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was looked at and found whole. ``configs`` holds each component's own config."""

    path: Path
    family: Family
    configs: dict[str, dict[str, Any]]
    classes: dict[str, str]
    info: ModelInfo
    boundary_ratio: float = 0.0

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read and check the folder ``path``. Raises ``CheckpointError`` that names the file at fault."""
        path = path.expanduser().resolve()
        if not path.is_dir():
            raise CheckpointError(f"{path} is not a folder; a Diffusers checkpoint folder is needed")
        index = read_json(path / "model_index.json")
        family = family_of(index)
        classes = {name: _component_class(index, name, family) for name in family.components}
        configs = {name: read_json(path / name / CONFIG_NAMES.get(name, "config.json")) for name in family.components}
        for component in family.components:
            for file in component_weights(path, component):
                check_safetensors(file)
        info = model_info(path, family, configs, _defaults(path, family))
        return cls(path, family, configs, classes, info, _boundary_ratio(index))

    @property
    def boundary_timestep(self) -> float:
        """Below it the second expert takes over; 0 where there is one transformer."""
        return self.boundary_ratio * self.configs["scheduler"].get("num_train_timesteps", 1000)

    def fingerprint(self) -> str:
        """A hash that changes when the checkpoint does: contents of small files, size and time of weights."""
        digest = hashlib.sha256(str(self.path).encode())
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            status = file.stat()
            digest.update(f"\n{file.relative_to(self.path)} {status.st_size} {status.st_mtime_ns}\n".encode())
            if file.suffix == ".json" and status.st_size < 32 << 20:
                digest.update(file.read_bytes())
        return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from ``path``; raises ``CheckpointError`` when it is missing or is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object")
    return value


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of a component: one file, or the shards its index names. All exist."""
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        shards = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if not shards or not all(isinstance(s, str) and "/" not in s and s.endswith(".safetensors") for s in shards):
            raise CheckpointError(f"{index} should map each weight to a .safetensors file in the same folder")
        files = [folder / shard for shard in sorted(set(shards))]
    else:
        files = [folder / f"{stem}.safetensors"]
    for file in files:
        if not file.is_file():
            pickled = sorted(p.name for p in folder.glob("*.bin"))
            hint = f" ({pickled[0]} is a pickle, which is not loaded)" if pickled else ""
            raise CheckpointError(f"{file} is missing{hint}")
    return files


def component_weights(path: Path, component: str) -> list[Path]:
    """The safetensors files of the folder ``component`` in the checkpoint ``path``; none for what has no weights."""
    stem = WEIGHT_NAMES.get(component)
    return weight_files(path / component, stem) if stem else []


def _component_class(index: dict[str, Any], name: str, family: Family) -> str:
    entry = index.get(name)
    found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if found not in family.components[name]:
        allowed = " or ".join(family.components[name])
        raise CheckpointError(f"model_index.json: {name} is {found!r}, but {family.name} needs {allowed}")
    return str(found)


def _boundary_ratio(index: dict[str, Any]) -> float:
    ratio = index.get("boundary_ratio") or 0.0
    if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise CheckpointError(f"model_index.json: boundary_ratio is {ratio!r}, but should be from 0 to 1")
    return float(ratio)


def _defaults(path: Path, family: Family) -> Defaults:
    """The family's defaults, with what the checkpoint's own ``triton_video.json`` says instead."""
    file = path / DEFAULTS_FILE
    if not file.exists():
        return family.defaults
    try:
        return Defaults.model_validate({**family.defaults.model_dump(), **read_json(file)})
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
