"""The alpha of each layer's LoRA: the matrices' product is scaled by alpha / rank.

Kohya's tools store an alpha tensor beside the matrices. PEFT writes ``adapter_config.json``, and
diffusers the same values into the metadata of the file. Without any of them the factor is 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.checkpoint.regular_files import read_json
from pipeline.checkpoint.safetensors_header import Entry
from pipeline.errors import CheckpointError

PEFT_FILE = "adapter_config.json"
DIFFUSERS_KEY = "lora_adapter_metadata"
_NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class Alphas:
    """The alphas of a configuration. ``patterns`` maps the end of a layer's name to its alpha."""

    default: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    by_root: bool = False

    def factor(self, layer: str, rank: int) -> float:
        """Return alpha / rank of ``layer``, or alpha / sqrt(rank) if ``by_root`` (rsLoRA)."""
        matching = (
            alpha
            for end, alpha in self.patterns.items()
            if layer == end or layer.endswith(f".{end}")
        )
        alpha = next(matching, self.default)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def alphas_of(folder: Path, metadata: Mapping[str, str], part: str) -> Alphas:
    """Return the alphas of a file in ``folder`` with ``metadata``, of the transformer ``part``.

    Raises ``CheckpointError`` for a configuration that is invalid or of another kind of adapter.
    """
    if DIFFUSERS_KEY in metadata:
        place, prefix = f"the metadata of a file in {folder}", f"{part}."
        try:
            found = json.loads(metadata[DIFFUSERS_KEY])
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CheckpointError(f"{place}: {DIFFUSERS_KEY} is not a JSON object")
        config = {key.removeprefix(prefix): value for key, value in found.items()}
    elif (folder / PEFT_FILE).exists():
        place, config = str(folder / PEFT_FILE), read_json(folder / PEFT_FILE)
    else:
        return Alphas()
    peft_type = config.get("peft_type", "lora")
    if config.get("use_dora") or str(peft_type).lower() != "lora":
        kind = "DoRA" if config.get("use_dora") else repr(peft_type)
        raise CheckpointError(f"{place}: {kind} is not supported; an adapter must be a LoRA")
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise CheckpointError(f"{place}: alpha_pattern should map names of layers to numbers")
    return Alphas(
        None if alpha is None else _number(place, "lora_alpha", alpha),
        {
            str(layer).removeprefix("^"): _number(place, "alpha_pattern", value)
            for layer, value in patterns.items()
        },
        by_root=bool(config.get("use_rslora")),
    )


def read_alpha(file: BinaryIO, path: Path, name: str, entry: Entry) -> float:
    """Return the alpha in the tensor ``name`` of the open safetensors file ``path``.

    Raises ``CheckpointError`` if it is not one finite number.
    """
    if math.prod(entry.shape) == 1 and entry.dtype in (*_NUMBERS, "BF16"):
        file.seek(entry.start)
        raw = file.read(entry.end - entry.start)
        if entry.dtype == "BF16":  # the upper half of a float32
            raw, kind = b"\0\0" + raw, "<f4"
        else:
            kind = _NUMBERS[entry.dtype]
        return _number(str(path), name, float(np.frombuffer(raw, kind)[0]))
    raise CheckpointError(
        f"{path}: {name} is {entry.dtype} {list(entry.shape)}; an alpha is one number"
    )


def _number(place: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"{place}: {name} is {value!r}; an alpha is a finite number")
    return float(value)
