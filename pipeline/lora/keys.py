"""The names of tensors in LoRA files: what each tensor is, and which linear layers it changes.

Layouts: diffusers and PEFT (``blocks.0.attn1.to_q.lora_A.weight``), the models' authors
(``diffusion_model.blocks.0.self_attn.q.lora_down.weight``) and Kohya's tools
(``lora_unet_blocks_0_self_attn_q.lora_down.weight``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["down", "up", "alpha", "bias", "up_bias", "full"]
"""What a tensor is: the two low-rank matrices, their alpha, and differences of a bias or of a whole
weight. ``up_bias`` is a bias that PEFT scales together with the matrices.
"""
_ROLES: Mapping[str, Role] = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".lora_B.bias": "up_bias",
    ".diff_b": "bias",
    ".diff": "full",
}
SECOND = "transformer_2."
_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    SECOND,
    "lora_unet_",
    "lora_transformer_",
)
OTHER_KINDS = {
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".lokr_": "LoKr",
    ".hada_": "LoHa",
    ".oft_": "OFT",
}
"""Part of a tensor's name -> the kind of adapter that has it and that is not supported."""
_ELSEWHERE = re.compile(r"^(lora_te\d?_|text_encoder(_2)?\.)")
# Layers of Wan 2.1 I2V that Wan 2.2 I2V and all T2V models lack. LoRAs are published for both.
_IMAGE_LAYERS = re.compile(r"[._](k_img|v_img|add_[kv]_proj)$|^img_emb[._]|[._]image_embedder[._]")

_WAN_BLOCK = {
    **{
        f"{theirs}.{name}": (f"{ours}.{layer}",)
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for name, layer in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "cross_attn.k_img": ("attn2.add_k_proj",),
    "cross_attn.v_img": ("attn2.add_v_proj",),
    "ffn.0": ("ffn.net.0.proj",),
    "ffn.2": ("ffn.net.2",),
}
_WAN = {
    "head.head": ("proj_out",),
    "time_projection.1": ("condition_embedder.time_proj",),
    "time_embedding.0": ("condition_embedder.time_embedder.linear_1",),
    "time_embedding.2": ("condition_embedder.time_embedder.linear_2",),
    "text_embedding.0": ("condition_embedder.text_embedder.linear_1",),
    "text_embedding.2": ("condition_embedder.text_embedder.linear_2",),
    "img_emb.proj.1": ("condition_embedder.image_embedder.ff.net.0.proj",),
    "img_emb.proj.3": ("condition_embedder.image_embedder.ff.net.2",),
}
_HUNYUAN_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp.fc1": ("ff.net.0.proj",),
    "img_mlp.fc2": ("ff.net.2",),
    "img_mod.linear": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp.fc1": ("ff_context.net.0.proj",),
    "txt_mlp.fc2": ("ff_context.net.2",),
    "txt_mod.linear": ("norm1_context.linear",),
}
_HUNYUAN_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.linear": ("norm.linear",),
}
_BLOCKS = (
    ("blocks", "blocks", _WAN_BLOCK),
    ("double_blocks", "transformer_blocks", _HUNYUAN_DOUBLE),
    ("single_blocks", "single_transformer_blocks", _HUNYUAN_SINGLE),
)
"""The authors' name of a list of blocks, diffusers' name, and the layers of a block: the authors'
name -> diffusers' names, of which the outputs are concatenated in this order.
"""


@dataclass(frozen=True)
class Key:
    """The parsed name of a tensor. ``second``: the name says that it is for the second expert."""

    layer: str
    role: Role
    second: bool = False


def parse(name: str) -> Key | None:
    """Return the parsed name of a tensor, or None for a name of no known layout."""
    suffix = next((suffix for suffix in _ROLES if name.endswith(suffix)), None)
    if suffix is None:
        return None
    layer, second = name.removesuffix(suffix), False
    while prefix := next((each for each in _PREFIXES if layer.startswith(each)), None):
        second = second or prefix == SECOND
        layer = layer.removeprefix(prefix)
    return Key(layer, _ROLES[suffix], second)


def is_unused(name: str, key: Key | None) -> bool:
    """Return whether a tensor of a layer that the model does not have may be left out.

    These are differences of norms and modulations, as in diffusers, tensors of text encoders, and
    layers for an image in a model that has none.
    """
    if _ELSEWHERE.search(name) or name.endswith(".diff_m"):
        return True
    return key is not None and (
        key.role in ("bias", "full") or bool(_IMAGE_LAYERS.search(key.layer))
    )


def aliases(layers: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each name that a file may use, the linear layers that it means.

    ``layers`` are diffusers' names of the model's linear layers. Several layers mean one whose
    output is theirs, concatenated.
    """
    found: dict[str, tuple[str, ...]] = {layer: (layer,) for layer in layers}
    found |= {theirs: ours for theirs, ours in _WAN.items() if set(ours) <= set(layers)}
    for theirs, ours, block in _BLOCKS:
        prefix = f"{ours}."
        numbers = {
            layer.removeprefix(prefix).partition(".")[0]
            for layer in layers
            if layer.startswith(prefix)
        }
        for number in numbers:
            for name, parts in block.items():
                paths = tuple(f"{ours}.{number}.{part}" for part in parts)
                if set(paths) <= set(layers):
                    found[f"{theirs}.{number}.{name}"] = paths
    return found | {name.replace(".", "_"): paths for name, paths in found.items()}
