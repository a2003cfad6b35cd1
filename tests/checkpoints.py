"""Tiny random checkpoints of the Wan 2.1 family, in Diffusers format, with sizes nobody would choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

SPECIAL = ["<pad>", "</s>", "<unk>"]
WORDS = ["a", "red", "blue", "green", "circle", "square", "moves", "left", "right", "on", "white", "black"]


def build(folder: Path, *, seed: int, plain_vae: bool, euler: bool, shard: bool) -> Path:
    """Write a checkpoint into ``folder``: its VAE of four levels or of patches, Euler or UniPC, in shards or not."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    channels, text_dim = (5, 40) if plain_vae else (8, 24)
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer) + 3, d_model=text_dim, d_kv=10, d_ff=36, num_layers=1 + seed % 2, num_heads=3
        )
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16 if plain_vae else 24,
        in_channels=channels,
        out_channels=channels,
        text_dim=text_dim,
        freq_dim=32,
        ffn_dim=56,
        num_layers=3 if plain_vae else 2,
        rope_max_seq_len=64,
    )
    vae = _vae(channels, plain_vae)
    for module in (encoder, transformer, vae):
        _shake(module)
    scheduler = (
        FlowMatchEulerDiscreteScheduler(shift=3.0)
        if euler
        else UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    )
    parts: dict[str, Any] = {"tokenizer": tokenizer, "scheduler": scheduler}
    pipeline = WanPipeline(text_encoder=encoder, vae=vae, transformer=transformer, **parts)
    pipeline.save_pretrained(folder, max_shard_size="60KB" if shard else "5GB")
    defaults = {
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "fps": 8,
        "num_inference_steps": 4,
        "max_sequence_length": 20,
    }
    (folder / "triton_video.json").write_text(json.dumps(defaults))
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def _vae(channels: int, plain: bool) -> AutoencoderKLWan:
    levels: dict[str, Any] = (
        {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True], "num_res_blocks": 2}
        if plain
        else {
            "dim_mult": [1, 2, 4],
            "temperal_downsample": [True, True],
            "num_res_blocks": 1,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
        }
    )
    return AutoencoderKLWan(
        base_dim=6 if plain else 8,
        z_dim=channels,
        latents_mean=torch.randn(channels).tolist(),
        latents_std=(torch.rand(channels) + 0.5).tolist(),
        **levels,
    )


def _shake(module: torch.nn.Module) -> None:
    """Give parameters that start at zero or one values of their own: a branch of zeros would hide an error in it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
