"""Checkpoints in the sizes of the published ones, whose weight files are holes: they have headers
and take no space.

Command lines and the memory plan read only configs and headers. The sizes are those of the configs
on the hub.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from transformers import (
    CLIPTextModel,
    CLIPVisionModel,
    LlamaModel,
    UMT5EncoderModel,
)

SIZES = {"F32": 4, "BF16": 2, "F16": 2}
WIDTH_1_3B = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
WIDTH_5B = {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30,
            "in_channels": 48, "out_channels": 48}  # fmt: skip
WIDTH_14B = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
I2V_21 = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
VAE_22 = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True,
          "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
          "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}  # fmt: skip
UMT5_XXL = {"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24,
            "vocab_size": 256384, "feed_forward_proj": "gated-gelu"}  # fmt: skip
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128320,
            "head_dim": 128}  # fmt: skip
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
          "num_attention_heads": 12, "vocab_size": 49408, "projection_dim": 768}  # fmt: skip
CLIP_H = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
          "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
          "projection_dim": 1024}  # fmt: skip


def component(folder: Path, cls: type[Any], config: Mapping[str, Any], dtype: str) -> list[str]:
    """Write a component's config and a weight file of holes; return its entry of the index."""
    diffusers = cls.__module__.startswith("diffusers")
    with torch.device("meta"):
        if diffusers:
            model = cls(**config)
            saved = {key: value for key, value in model.config.items() if not key.startswith("_")}
            saved["_class_name"] = cls.__name__
        else:
            wanted = cls.config_class(**config)
            model = cls(wanted)
            saved = json.loads(wanted.to_json_string())
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    stem = "diffusion_pytorch_model" if diffusers else "model"
    # A tied embedding is stored once.
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    sparse(folder / f"{stem}.safetensors", tensors, dtype)
    return ["diffusers" if diffusers else "transformers", cls.__name__]


def sparse(path: Path, tensors: Mapping[str, torch.Tensor], dtype: str) -> None:
    """Write a safetensors file whose header lists ``tensors`` and whose data is a hole."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)


def _finish(folder: Path, pipeline: str, index: dict[str, Any], tokenizers: int = 1) -> Path:
    for name in ("tokenizer", "tokenizer_2")[:tokenizers]:
        (folder / name).mkdir()
        (folder / name / "tokenizer_config.json").write_text("{}")
        kinds = ("LlamaTokenizerFast", "CLIPTokenizer") if tokenizers > 1 else ("T5TokenizerFast",)
        index[name] = ["transformers", kinds[name.endswith("2")]]
    flow = "Hunyuan" in pipeline
    scheduler = "FlowMatchEulerDiscreteScheduler" if flow else "UniPCMultistepScheduler"
    values = {"_class_name": scheduler, "shift": 7.0, "use_flow_sigmas": True, "flow_shift": 3.0,
              "prediction_type": "flow_prediction"}  # fmt: skip
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    index |= {"_class_name": pipeline, "scheduler": ["diffusers", scheduler]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def wan(
    folder: Path,
    size: Mapping[str, Any],
    *,
    experts: int = 1,
    pipeline: str = "WanPipeline",
    encoder_dtype: str = "BF16",
    vae: Mapping[str, Any] | None = None,
    image_encoder: bool = False,
    **marks: Any,
) -> Path:
    """Write a checkpoint of a Wan family; ``marks`` are further keys of its index."""
    index: dict[str, Any] = dict(marks)
    for name in ("transformer", "transformer_2")[:experts]:
        index[name] = component(folder / name, WanTransformer3DModel, size, "F32")
    index["vae"] = component(folder / "vae", AutoencoderKLWan, vae or {}, "F32")
    index["text_encoder"] = component(
        folder / "text_encoder", UMT5EncoderModel, UMT5_XXL, encoder_dtype
    )
    if image_encoder:
        index["image_encoder"] = component(folder / "image_encoder", CLIPVisionModel, CLIP_H, "F32")
        (folder / "image_processor").mkdir()
        (folder / "image_processor" / "preprocessor_config.json").write_text("{}")
        index["image_processor"] = ["transformers", "CLIPImageProcessor"]
    return _finish(folder, pipeline, index)


def hunyuan_video(folder: Path) -> Path:
    """Write a checkpoint of HunyuanVideo; FastHunyuan has the same sizes."""
    index: dict[str, Any] = {
        "transformer": component(
            folder / "transformer", HunyuanVideoTransformer3DModel, {}, "BF16"
        ),
        "vae": component(folder / "vae", AutoencoderKLHunyuanVideo, {}, "F16"),
        "text_encoder": component(folder / "text_encoder", LlamaModel, LLAMA_8B, "F16"),
        "text_encoder_2": component(folder / "text_encoder_2", CLIPTextModel, CLIP_L, "F16"),
    }
    return _finish(folder, "HunyuanVideoPipeline", index, tokenizers=2)


PUBLISHED: Mapping[str, Callable[[Path], Path]] = {
    "Wan2.1-T2V-1.3B": lambda folder: wan(folder, WIDTH_1_3B, encoder_dtype="F32"),
    "Wan2.1-T2V-14B": lambda folder: wan(folder, WIDTH_14B, encoder_dtype="F32"),
    "Wan2.1-I2V-14B-720P": lambda folder: wan(
        folder, {**WIDTH_14B, **I2V_21}, image_encoder=True, pipeline="WanImageToVideoPipeline"
    ),
    "Wan2.2-TI2V-5B": lambda folder: wan(folder, WIDTH_5B, vae=VAE_22, expand_timesteps=True),
    "Wan2.2-T2V-A14B": lambda folder: wan(folder, WIDTH_14B, experts=2, boundary_ratio=0.875),
    "Wan2.2-I2V-A14B": lambda folder: wan(
        folder, {**WIDTH_14B, "in_channels": 36}, experts=2, boundary_ratio=0.9,
        pipeline="WanImageToVideoPipeline",
    ),
    "HunyuanVideo": hunyuan_video,
}  # fmt: skip
"""Name on the hub -> what writes such a checkpoint into a new folder, and returns that."""
