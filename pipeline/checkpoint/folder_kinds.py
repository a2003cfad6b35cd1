"""Recognise folders and files that are no Diffusers checkpoint, and suggest what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SAVE_AGAIN = "load it with diffusers and write it with save_pretrained()"
CONVERT = (
    "convert it with diffusers' scripts/convert_wan_to_diffusers.py, or take the "
    "-Diffusers repository"
)
ORIGINAL = f"the weights are in their authors' own layout; {CONVERT}"
LORA = "a LoRA, which is not a model; pass it as --lora NAME=PATH, and its model as --model-path"
GGUF = (
    "GGUF weights, which are quantised for other programs and not supported; take the "
    "Diffusers checkpoint"
)
SINGLE = (
    "weights without a folder around them; load them with diffusers' from_single_file() "
    "and save_pretrained()"
)
COMPONENT = "one component of a checkpoint; name the folder above it"
PICKLE = "is a pickle, which is not loaded; export --allow-pickle converts it"
LORA_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
)
_VARIANT = re.compile(r"\.(fp16|bf16|fp8|non_ema)[.-]")
_ORIGINAL = re.compile(r"Wan2\.\d_VAE\.pth|models_t5_.*\.pth|hunyuan-video-t2v-\w+")


def kind_of_names(names: Iterable[str]) -> str | None:
    """Describe a folder with files of these names, and what to do, as the end of a sentence.

    Returns None when the kind is unknown.
    """
    found = sorted(names)
    if any(name in LORA_FILES or "lora" in name.lower() for name in found):
        return f"it holds {LORA}"
    if any(name.endswith(".gguf") for name in found):
        return f"it holds {GGUF}"
    if any(_ORIGINAL.fullmatch(name) for name in found):
        return ORIGINAL
    weights = [
        name for name in found if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt"))
    ]
    if weights and "config.json" in found:
        return f"it holds {COMPONENT}"
    return f"it holds {SINGLE}" if weights else None


def kind_of_file(path: Path) -> str | None:
    """Describe the file ``path`` as `kind_of_names` describes a folder; None when unknown."""
    if "lora" in path.name.lower():
        return f"it is {LORA}"
    if path.suffix == ".gguf":
        return f"it holds {GGUF}"
    return (
        f"it holds {SINGLE}"
        if path.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
        else None
    )


def instead_of_weights(names: Iterable[str], stem: str) -> str:
    """Describe what a component's folder holds instead of ``stem``.safetensors.

    ``names`` are the names of its files. Returns text in brackets that is appended to a sentence,
    or an empty string when the kind is unknown.
    """
    found, index = sorted(names), f"{stem}.safetensors.index.json"
    own = [
        name
        for name in found
        if name.startswith((stem, {"model": "pytorch_model"}.get(stem, stem)))
    ]
    safe, indexed = [name for name in found if name.endswith(".safetensors")], index in found
    for likely, why in (
        (
            [name for name in own if _VARIANT.search(name)],
            f"is a variant; rename it, or {SAVE_AGAIN}",
        ),
        ([name for name in own if name.endswith(".bin")], PICKLE),
        ([name for name in found if name.endswith(".gguf")], f"holds {GGUF}"),
        ([name for name in found if name in LORA_FILES], f"is {LORA}"),
        (
            [name for name in own if "-of-" in name and not indexed],
            f"is a shard, but {index} is missing",
        ),
        ([name for name in safe if not indexed], f"has another name than {stem}.safetensors"),
    ):
        if likely:
            return f" ({likely[0]} {why})"
    return ""
