"""Check that a component's files hold the weights of its class, by names, shapes and types; nothing
is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from export.weights.naming import names_in_files
from export.weights.stored import StoredTensor, stored_tensors
from pipeline.checkpoint.folder_kinds import CONVERT, LORA, ORIGINAL, SAVE_AGAIN
from pipeline.errors import CheckpointError

SHOWN = 3
FLOATS = ("F64", "F32", "F16", "BF16")
UNUSED: Mapping[str, tuple[str, ...]] = {
    "UMT5EncoderModel": (r"^decoder\.", r"^lm_head\."),
    "LlamaModel": (r"(^|\.)lm_head\.", r"rotary_emb\.inv_freq$"),
    "CLIPTextModel": (
        r"^text_projection\.",
        r"^logit_scale$",
        r"^vision_model\.",
        r"^visual_projection\.",
        r"position_ids$",
    ),
    "CLIPVisionModel": (
        r"^visual_projection\.",
        r"^logit_scale$",
        r"^text_model\.",
        r"^text_projection\.",
        r"position_ids$",
    ),
}
"""Class -> patterns of stored names that are not part of it: other halves of the models it comes
from, and buffers that older releases stored. Beside these the class itself has
``_keys_to_ignore_on_load_unexpected``."""

SCALED = "the weights are scaled fp8, which is not supported; take bf16 or fp16"
QUANTISED = "the weights are quantised, which is not supported; take bf16 or fp16"
WRAPPED = f"the file was written by a wrapper for training; {SAVE_AGAIN}"
REASONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"lora_(A|B|up|down|unet|te)|\.lora\b"), f"the file is {LORA}"),
    (
        re.compile(r"scale_weight|weight_scale|scale_input|input_scale|scaled_fp8|comfy_quant"),
        SCALED,
    ),
    (re.compile(r"absmax|quant_state|qweight|qzeros|SCB$"), QUANTISED),
    (
        re.compile(r"^model\.diffusion_model\.|^first_stage_model\."),
        f"the names are ComfyUI's; {CONVERT}",
    ),
    (
        re.compile(
            r"^(blocks\.\d+\.(self|cross)_attn|double_blocks|(en|de)coder\.(down|up)samples)\."
        ),
        ORIGINAL,
    ),
    (re.compile(r"^(module|_orig_mod|_fsdp_wrapped_module)\."), WRAPPED),
)
"""The likely reason for names that fit no model."""


def compare(model: Any, folder: Path, unused: Iterable[str] = ()) -> None:
    """Compare the files of the component ``folder`` with ``model``, whose parameters may be on the
    meta device.

    ``unused`` are further patterns of names that may be stored. Raises ``CheckpointError`` that
    names the component, a file, the first few names and the likely reason.
    """
    stored = stored_tensors(folder)
    wanted: dict[str, Any] = model.state_dict(keep_vars=True)
    names = names_in_files(model, stored)
    missing = [name for name in wanted if name not in names]
    surplus = _surplus(model, stored, set(names.values()), unused)
    kind = type(model).__name__
    if missing:
        raise CheckpointError(
            f"{folder}: {kind} needs {_some(missing)}, which no file holds{_reason(stored)}"
            + (f"; stored instead: {_some(surplus)}" if surplus else "")
        )
    if surplus:
        file = stored[surplus[0]].file
        raise CheckpointError(
            f"{file}: {kind} with this config.json has no {_some(surplus)}{_reason(surplus)}"
        )
    for name, tensor in wanted.items():
        _require_form(stored[names[name]], tensor)


def _surplus(
    model: Any, stored: Collection[str], used: Collection[str], unused: Iterable[str]
) -> list[str]:
    declared = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    patterns = [
        re.compile(each) for each in (*declared, *UNUSED.get(type(model).__name__, ()), *unused)
    ]
    return [
        name
        for name in stored
        if name not in used and not any(each.search(name) for each in patterns)
    ]


def _require_form(found: StoredTensor, wanted: Any) -> None:
    if found.shape != tuple(wanted.shape):
        raise CheckpointError(
            f"{found.file}: {found.name} has the shape {list(found.shape)}, "
            f"not {list(wanted.shape)} as in config.json{_reason([found.name])}"
        )
    if wanted.is_floating_point() != (found.dtype in FLOATS):
        raise CheckpointError(
            f"{found.file}: {found.name} is of type {found.dtype}, not of a floating-point type; "
            "the weights are quantised, which is not supported"
        )


def _some(names: Collection[str]) -> str:
    first = ", ".join(list(names)[:SHOWN])
    return f"{first} and {len(names) - SHOWN} more" if len(names) > SHOWN else first


def _reason(names: Iterable[str]) -> str:
    found = list(names)
    return next(
        (f": {why}" for pattern, why in REASONS if any(pattern.search(name) for name in found)), ""
    )
