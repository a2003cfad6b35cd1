"""Reject component configs that run code, load other files, describe quantised weights or have
implausible sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoint.regular_files import nested
from pipeline.errors import CheckpointError

ATTENTION = (None, "eager", "sdpa")
VOCABULARIES = (
    "vocab_file",
    "tokenizer_file",
    "merges_file",
    "spm_file",
    "sp_model_file",
    "gguf_file",
)
MAX_NUMBER = 2**31
MAX_TRAIN_TIMESTEPS = 100_000
MAX_IMAGE_SIDE = 4096
SIZES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"layers|blocks|num_stages|layers_per_block|num_res_blocks"), 512),
    (re.compile(r"heads|head_dim|freq_dim|^d_kv"), 4096),
    (re.compile(r"max_seq_len|image_size"), 1 << 14),
    (re.compile(r"vocab_size|max_position_embeddings"), 1 << 21),
    (
        re.compile(
            r"_dim$|^dim_mult|channels|hidden_size|intermediate_size|d_model|d_ff|patch_size|buckets"
        ),
        1 << 17,
    ),
)
"""Patterns of config keys, each with the largest integer allowed there: above any current model,
with a margin.
"""


def check_config(file: Path, config: Mapping[str, Any], *, has_weights: bool) -> None:
    """Check the config of one component, read from ``file``.

    Raises ``CheckpointError``, which names the key.
    """
    for _, _, found in nested(config):
        if isinstance(found, dict):
            _check_keys(file, found)
    if has_weights:
        for _, key, found in nested(config):
            _check_number(file, key, found)


def check_class(file: Path, config: Mapping[str, Any], class_name: str) -> None:
    """Check that a diffusers config has the class that ``model_index.json`` names.

    Raises ``CheckpointError`` when it has another one.
    """
    found = config.get("_class_name", class_name)
    if found != class_name:
        raise CheckpointError(
            f"{file}: _class_name is {found!r}, but model_index.json says {class_name!r}"
        )


def check_schedule(file: Path, class_name: str, config: Mapping[str, Any]) -> None:
    """Check that a scheduler's config describes a flow-matching schedule with a fixed shift.

    The model predicts flow velocities, and any other schedule would produce noise. Raises
    ``CheckpointError``.
    """
    if class_name == "UniPCMultistepScheduler":
        if not config.get("use_flow_sigmas"):
            raise CheckpointError(
                f"{file}: use_flow_sigmas is off, but the model predicts flow velocities"
            )
        predicted = config.get("prediction_type", "epsilon")
        if predicted != "flow_prediction":
            raise CheckpointError(
                f"{file}: prediction_type is {predicted!r}; only 'flow_prediction' is supported"
            )
    for key in ("use_dynamic_shifting", "invert_sigmas"):
        if config.get(key):
            raise CheckpointError(f"{file}: {key} is on, which these models were not trained with")
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 1 <= steps <= MAX_TRAIN_TIMESTEPS:
        raise CheckpointError(
            f"{file}: num_train_timesteps is {steps!r}; it must be 1 to {MAX_TRAIN_TIMESTEPS}"
        )
    for key in ("flow_shift", "shift"):
        shift = config.get(key, 1.0)
        if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift <= 100:
            raise CheckpointError(
                f"{file}: {key} is {shift!r}; it must be a number above 0, up to 100"
            )


def check_tokenizer_config(file: Path, config: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Check a tokenizer's config. ``classes`` are the tokenizer classes that the family allows.

    Raises ``CheckpointError`` for another class and for a vocabulary outside the folder.
    """
    found = config.get("tokenizer_class")
    if found is not None and str(found).removesuffix("Fast") not in {
        name.removesuffix("Fast") for name in classes
    }:
        raise CheckpointError(
            f"{file}: tokenizer_class is {found!r}; it must be {' or '.join(classes)}"
        )
    for key in VOCABULARIES:
        place = config.get(key)
        if place is not None and (not isinstance(place, str) or Path(place).name != place):
            raise CheckpointError(
                f"{file}: {key} is {place!r}; it must be the name of a file in the same folder"
            )


def check_image_processor(file: Path, config: Mapping[str, Any]) -> None:
    """Check the sizes in pixels that an image is resized to.

    Raises ``CheckpointError`` for a side outside 1 to ``MAX_IMAGE_SIDE``.
    """
    for key in ("size", "crop_size"):
        for _, name, found in nested(config.get(key)):
            side = name or key
            if not isinstance(found, dict | None) and (
                type(found) is not int or not 1 <= found <= MAX_IMAGE_SIDE
            ):
                raise CheckpointError(
                    f"{file}: {side} is {found!r}; it must be 1 to {MAX_IMAGE_SIDE} pixels"
                )


def _check_keys(file: Path, config: Mapping[str, Any]) -> None:
    if config.get("auto_map"):
        raise CheckpointError(
            f"{file}: auto_map names Python code of the checkpoint, which is never run"
        )
    if config.get("transformers_weights"):
        raise CheckpointError(
            f"{file}: transformers_weights names another file of weights, which is not supported"
        )
    for key in ("quantization_config", "compression_config"):
        if found := config.get(key):
            method = found.get("quant_method") if isinstance(found, dict) else found
            raise CheckpointError(
                f"{file}: the weights are quantised ({key}: {method!r}); take a checkpoint in "
                "bf16, fp16 or fp32"
            )
    for key in ("attn_implementation", "_attn_implementation"):
        if config.get(key) not in ATTENTION:
            raise CheckpointError(f"{file}: {key} is {config[key]!r}; it must be 'eager' or 'sdpa'")


def _check_number(file: Path, key: str, found: object) -> None:
    if isinstance(found, float) and not math.isfinite(found):
        raise CheckpointError(f"{file}: {key} is {found}; it must be a finite number")
    if type(found) is int:
        limit = next((limit for keys, limit in SIZES if keys.search(key)), MAX_NUMBER)
        if not -limit <= found <= limit:
            raise CheckpointError(f"{file}: {key} is {_short(found)}; at most {limit} is supported")


def _short(number: int) -> str:
    text = str(number)
    return text if len(text) <= 20 else f"{text[:20]}... ({len(text)} digits)"
